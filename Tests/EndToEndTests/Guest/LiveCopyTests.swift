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
      // The last line may not be complete yet.
      return String(decoding: bytes, as: UTF8.self)
        .split(separator: "\r\n", omittingEmptySubsequences: false).dropLast()
        .first { $0.hasPrefix("LIVE ") }
    }
    try waitUntil("the guest is busy") { line() != nil }
    let pids = try #require(line()).dropFirst(5)

    let shell = ExtensionShell(bench.storePath, cacheHome: bench.directory.file("cache"))
    // Modules and sockets this guest has none of.
    let tables = ["process", "thread", "file", "mapping", "mount", "netdev", "dmesg"]
    var noteCount = 0
    var beginnings: Set<[Substring]> = []
    for number in 1...4 {
      let name = "live-\(number)"
      try bench.tool.succeed("save", ram, "--name", name)
      let lines = try shell.run(
        """
        SELECT count(*), sum(comm = 'sleep' AND ppid = 1) FROM guest_process('\(name)')
         WHERE pid IN (\(pids));
        \(tables.map { "SELECT count(*), count(note) FROM guest_\($0)('\(name)');" }.joined())
        SELECT count(*), 0 FROM guest_page('\(name)');
        SELECT count(*) >= 0, count(*) >= 0 FROM guest_socket('\(name)'), guest_module('\(name)');
        SELECT seq, ts_ns, text FROM guest_dmesg('\(name)') WHERE seq < 150 ORDER BY seq;
        """
      ).split(separator: "\n")
      #expect(lines.first == "8|8", "\(name)")
      let counts = lines.dropFirst().prefix(tables.count + 1).map {
        $0.split(separator: "|").compactMap { Int($0) }
      }
      #expect(counts.allSatisfy { $0.count == 2 && $0[0] > 0 }, "\(name): \(counts)")
      noteCount += counts.reduce(0) { $0 + $1[1] }
      beginnings.insert(Array(lines.dropFirst(tables.count + 3)))
    }
    #expect(beginnings.count == 1, "what was logged before is the same in all copies")
    #expect(try #require(beginnings.first).count >= 150)
    // How much was torn is chance.
    print("LIVE\t\(noteCount) notes in 4 copies")
  }
}
