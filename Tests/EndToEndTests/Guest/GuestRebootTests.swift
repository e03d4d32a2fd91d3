import Foundation
import Testing
import VMCheckpointTestSupport

/// A real guest that is reset, and whose log goes round. The old boot's log stays in RAM until something else comes into
/// its place, and so do its kernel's tables.
@Suite(.serialized, .guest) struct GuestRebootTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Logs what boot it is, and after 15 numbers 40 long lines before each: four times as much as the log holds by the
  /// 30th.
  private static let start = """
    #!/bin/busybox sh
    /bin/busybox mkdir -p /proc
    /bin/busybox mount -t devtmpfs dev /dev
    /bin/busybox mount -t proc proc /proc
    echo on >/proc/sys/kernel/printk_devkmsg
    exec </dev/ttyS0 >/dev/ttyS0 2>&1
    nonce=$(/bin/busybox od -An -N16 -tx1 /dev/urandom | /bin/busybox tr -d ' ')
    long=$(/bin/busybox printf '%0800d' 0)
    echo "this is the boot of $nonce" >/dev/kmsg
    count=0
    while :; do
      line=0
      while [ $count -gt 15 ] && [ $line -lt 40 ]; do
        echo "line $line before $count of $nonce $long" >/dev/kmsg
        line=$((line + 1))
      done
      echo "COUNT $count $nonce"
      count=$((count + 1))
      /bin/busybox sleep "${interval:-1}"
    done

    """

  private struct Record: Hashable {
    var sequence: Int
    var text: String
    var boot: String?

    init?(_ object: [String: Any]) {
      guard let sequence = (object["seq"] ?? object["sequence"]) as? Int else { return nil }
      self.sequence = sequence
      // The oldest may just be given up.
      text = object["text"] as? String ?? ""
      boot = object["boot"] as? String
    }
  }

  /// All of a snapshot's log. A guest that is not damaged is not called so.
  private func log(_ name: String) throws -> [Record] {
    let object = try bench.tool.json("dmesg", name)
    let warnings = try #require(object["warnings"] as? [String])
    #expect(!warnings.contains { $0.contains("missing") }, "\(name): \(warnings)")
    return try #require(object["records"] as? [[String: Any]]).compactMap(Record.init)
  }

  private func logSince(_ before: String, _ after: String) throws -> [Record] {
    let outcome = try bench.tool.run("query", "log-since", before, after, "--json")
    expectSuccess(outcome)
    let rows = try #require(try outcome.jsonObject()["rows"] as? [[String: Any]])
    let records = rows.compactMap(Record.init)
    #expect(records.count == rows.count, "\(before) \(after)")
    return records
  }

  @Test("of the boot that was, nothing is called new, and of a log that went round nothing damaged")
  func reset() throws {
    let initramfs = bench.directory.file("initramfs")
    try CountingGuest.makeInitramfs(at: initramfs, start: bench.write("init", Self.start))
    let guest = try CountingGuest("guest", in: bench.directory, ram: .memfd, initramfs: initramfs)
    let monitor = try guest.monitor()
    var nonces: [String] = []
    /// Waits until the boot that is not in `nonces`, or the last of them, has counted so far, and saves it.
    func save(_ name: String, count: Int, isNew: Bool) throws {
      try waitUntil("\(name) has counted to \(count)") {
        guard let last = guest.counts().last, last.number >= count else { return false }
        return isNew ? !nonces.contains(last.nonce) : last.nonce == nonces.last
      }
      if isNew { nonces.append(try #require(guest.counts().last).nonce) }
      // On a busy machine it would log on until the save has begun.
      try monitor.run("stop")
      try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", name, "--vm", "guest")
      try monitor.run("cont")
    }
    try save("early", count: 2, isNew: true)
    try save("round", count: 30, isNew: false)
    try save("round-again", count: 38, isNew: false)
    // The command line says -no-reboot.
    try monitor.run("set-action", ["reboot": "reset"])
    try monitor.run("system_reset")
    try save("reset", count: 2, isNew: true)
    try save("reset-round", count: 30, isNew: false)
    try guest.kill()

    // One boot, also where the log has nothing any more that both have.
    for (before, after) in [
      ("early", "round"), ("round", "round-again"), ("reset", "reset-round"),
    ] {
      let (old, new) = (try log(before), try log(after))
      let last = try #require(old.last?.sequence)
      let found = try logSince(before, after)
      #expect(found.allSatisfy { $0.boot == "same" }, "\(before) \(after)")
      #expect(
        found.map(\.text) == new.filter { $0.sequence > last }.map(\.text),
        "\(before) \(after)"
      )
      #expect(!found.isEmpty)
    }
    #expect(try #require(log("round").first).sequence > 0, "the log has gone round")

    // Another one.
    for (before, after) in [
      ("early", "reset"), ("round-again", "reset"), ("early", "reset-round"),
      ("round-again", "reset-round"),
    ] {
      let found = try logSince(before, after)
      #expect(found.allSatisfy { $0.boot == "another" }, "\(before) \(after)")
      #expect(found.map(\.text) == (try log(after)).map(\.text), "\(before) \(after)")
      #expect(found.allSatisfy { !$0.text.contains(nonces[0]) }, "\(before) \(after)")
      let sequences = found.map(\.sequence)
      #expect(
        sequences == Array(sequences[0]...sequences[sequences.count - 1]),
        "\(before) \(after)"
      )
      #expect(found.contains { $0.text.contains(nonces[1]) })
    }
    let whole = try logSince("round-again", "reset")
    #expect(whole.first?.text.hasPrefix("Linux version ") == true)
    #expect(whole.contains { $0.text == "this is the boot of \(nonces[1])" })
  }
}
