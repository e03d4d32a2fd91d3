import Foundation
import Testing
import VMCheckpointTestSupport

/// A guest's RAM copied while the guest runs, without a pause: what its kernel was just writing is torn.
@Suite(.guest, .slow) struct LiveCopyTests {
  /// Eight processes that stay, and others that fork, write, mount and log without a rest.
  private static let start = """
    #!/bin/busybox sh
    /bin/busybox mount -t devtmpfs dev /dev
    exec </dev/ttyS0 >/dev/ttyS0 2>&1
    /bin/busybox --install -s /bin
    mkdir -p /proc /tmp /mnt
    mount -t proc proc /proc
    mount -t tmpfs tmp /tmp
    for number in 1 2 3 4 5 6 7 8; do
      sleep 100000 &
      pids="$pids,$!"
    done
    (while :; do (echo a >/tmp/a; cat /tmp/a >/tmp/b; rm /tmp/a); done) &
    (while :; do mount -t tmpfs t /mnt; umount /mnt; done) &
    (while :; do dd if=/dev/urandom of=/tmp/big bs=4k count=400 2>/dev/null; rm /tmp/big; done) &
    (number=0; while :; do echo "live $number" >/dev/kmsg; number=$((number + 1)); sleep 0.05; done) &
    # Once they are all at it.
    sleep 2
    echo "LIVE ${pids#,}"
    while :; do sleep 1000; done
    """

  @Test func everyProcessThatStaysIsFoundInEveryCopy() throws {
    let bench = try Workbench()
    let start = try bench.write("init", Self.start)
    let initramfs = bench.directory.file("initramfs")
    try CountingGuest.makeInitramfs(at: initramfs, start: start)
    let ram = bench.directory.file("ram")
    let guest = try CountingGuest(
      "live",
      in: bench.directory,
      cpuCount: 2,
      ram: .file(ram, isShared: true),
      initramfs: initramfs
    )
    func line() -> Substring? {
      guard let bytes = try? readFile(guest.consolePath) else { return nil }
      return String(decoding: bytes, as: UTF8.self).split(separator: "\r\n")
        .first { $0.hasPrefix("LIVE ") }
    }
    try waitUntil("the guest is busy", timeoutSeconds: 180) { line() != nil }
    let pids = try #require(line()).dropFirst(5)

    let shell = ExtensionShell(bench.storePath)
    var noteCount = 0
    var beginnings: Set<String> = []
    for number in 1...5 {
      try bench.tool.succeed("save", ram, "--name", "live-\(number)")
      let answer = try shell.run(
        """
        SELECT count(*), sum(comm = 'sleep' AND ppid = 1)
          FROM guest_process('live-\(number)') WHERE pid IN (\(pids));
        """
      )
      #expect(answer == "8|8", "live-\(number)")
      let tables = [
        "process", "thread", "file", "mapping", "socket", "mount", "dmesg", "netdev",
      ]
      let counts = try shell.run(
        tables.map { "SELECT count(*), count(note) FROM guest_\($0)('live-\(number)');" }.joined()
          + "SELECT count(*), 0 FROM guest_page('live-\(number)');"
      ).split(separator: "\n").map { $0.split(separator: "|").compactMap { Int($0) } }
      #expect(counts.count == tables.count + 1 && counts.allSatisfy { $0[0] > 0 }, "\(counts)")
      noteCount += counts.reduce(0) { $0 + $1[1] }
      beginnings.insert(
        try shell.run(
          "SELECT seq, ts_ns, text FROM guest_dmesg('live-\(number)') WHERE seq < 150 ORDER BY seq;"
        )
      )
    }
    #expect(beginnings.count == 1, "what was logged before is the same in all copies")
    #expect(try #require(beginnings.first).split(separator: "\n").count >= 150)
    // How much was torn is chance.
    print("LIVE\t\(noteCount) notes in 5 copies")
  }
}
