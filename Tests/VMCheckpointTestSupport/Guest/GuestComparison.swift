/// A guest's tables beside what its own kernel said: every row, in both directions.
package struct GuestComparison: Sendable {
  package let truth: GuestTruth
  package let tables: GuestTables
  /// Whether the kernel's symbols are functions alone (without `KALLSYMS_ALL`), as those of Debian 12's for arm64. Then
  /// nothing leads to netlink sockets that no process holds, and a note says so.
  let lacksNetlinkTable: Bool

  private static let netlinkNote = "tables of sockets: this kernel has no symbol nl_table"

  package init(truth: GuestTruth, tables: GuestTables) {
    self.truth = truth
    self.tables = tables
    lacksNetlinkTable = !tables.symbolLines.contains {
      $0.hasSuffix(" nl_table") || $0.hasSuffix(" d init_task") || $0.hasSuffix(" D init_task")
    }
  }

  /// What the comparison of a table came to.
  package struct Result {
    package let table: String
    /// Rows that both have.
    package var rowCount = 0
    package var mistakes: [String] = []

    package init(_ table: String) { self.table = table }

    /// Compares what a table and the truth have for the same thing.
    package mutating func expect<Value: Equatable>(
      _ what: @autoclosure () -> String,
      _ found: Value,
      _ truth: Value
    ) {
      if found != truth { mistakes.append("\(what()): \(found), but the kernel said \(truth)") }
    }

    package mutating func missing(_ what: String) { mistakes.append("\(what) is missing") }
    package mutating func extra(_ what: String) {
      mistakes.append("\(what) is there, and the kernel has none")
    }
  }

  /// Of all tables.
  package var results: [Result] {
    [
      system, symbols, processes, threads, log, modules, mounts, files, mappings, sockets, devices,
      notes,
    ]
  }

  /// Nothing was torn: a note is a mistake, but for the one that must be there where sockets are left out.
  package var notes: Result {
    var result = Result("note")
    if lacksNetlinkTable,
      !tables["guest_socket"].contains(where: { $0.text("note") == Self.netlinkNote })
    {
      result.missing("the note of sockets that are left out")
    }
    for name in GuestTables.names {
      for row in tables[name] {
        result.rowCount += 1
        if let note = row.text("note"), !(lacksNetlinkTable && note == Self.netlinkNote) {
          result.mistakes.append("\(name) notes: \(note)")
        }
      }
    }
    return result
  }

  package var system: Result {
    var result = Result("guest_os")
    guard let row = tables["guest_os"].first, tables["guest_os"].count == 1 else {
      result.missing("the one row")
      return result
    }
    result.rowCount = 1
    func line(_ path: String) -> String { truth.lines(path).first ?? "" }
    result.expect("release", row.text("release"), line("/proc/sys/kernel/osrelease"))
    result.expect("version", row.text("version"), line("/proc/sys/kernel/version"))
    result.expect("hostname", row.text("hostname"), line("/proc/sys/kernel/hostname"))
    // A kernel whose symbols are functions alone does not say where it keeps its command line and its clock.
    let hasData = tables.symbolLines.contains { $0.hasSuffix(" saved_command_line") }
    if hasData || row.text("cmdline") != nil {
      result.expect("cmdline", row.text("cmdline"), line("/proc/cmdline"))
    }
    result.expect("missing", row.text("missing"), nil)
    let boot = truth.lines("/proc/stat").first { $0.hasPrefix("btime ") }
    // The kernel rounds down what it adds up.
    let seconds = boot.flatMap { Int64($0.dropFirst(6)) } ?? 0
    let difference = abs((row.integer("boot_time") ?? 0) - seconds)
    if difference > 1, hasData || row.integer("boot_time") != nil {
      result.expect("boot_time", row.integer("boot_time"), seconds)
    }
    return result
  }

  /// The kernel's own symbols: their number, the sum of their lines' hashes, and some of them.
  package var symbols: Result {
    var result = Result("guest_symbol")
    var lines = truth.lines("/proc/kallsyms")
    let summary = lines.popLast()?.split(separator: " ") ?? []
    guard !lines.isEmpty, summary.count == 4 else { return result }
    var sum: UInt64 = 0
    for line in tables.symbolLines {
      var hash: UInt64 = 0xcbf2_9ce4_8422_2325
      for byte in line.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
      sum = sum &+ (hash ^ 0x0a) &* 0x100_0000_01b3
    }
    result.rowCount = tables.symbolLines.count
    result.expect("their number", "\(tables.symbolLines.count)", String(summary[1]))
    if "\(sum)" != summary[3] {
      let found = Set(tables.symbolLines.map(String.init))
      let wrong = lines.filter { !found.contains($0) }
      result.mistakes.append(
        "\(wrong.count) of \(lines.count) differ, as \(wrong.prefix(3)), or others do"
      )
    }
    return result
  }

  /// The log. Records that came after the truth are fine.
  package var log: Result {
    var result = Result("guest_dmesg")
    var rows: [Int64: GuestRow] = [:]
    for row in tables["guest_dmesg"] { rows[row.integer("seq") ?? -1] = row }
    for line in (truth.bytes("/dev/kmsg") ?? []).split(separator: 0x0a) where line.first != 0x20 {
      guard let end = line.firstIndex(of: 0x3b) else { continue }
      let head = String(decoding: line[..<end], as: UTF8.self).split(separator: ",")
      guard head.count >= 3, let priority = Int64(head[0]), let sequence = Int64(head[1]) else {
        continue
      }
      guard let row = rows.removeValue(forKey: sequence) else {
        result.missing("record \(sequence)")
        continue
      }
      result.rowCount += 1
      let what = "record \(sequence)"
      result.expect("\(what): level", row.integer("level"), priority & 7)
      result.expect("\(what): facility", row.integer("facility"), priority >> 3)
      result.expect("\(what): µs", row.integer("ts_ns").map { $0 / 1000 }, Int64(head[2]))
      let text = GuestTruth.unescaped(line[(end + 1)...], isLog: true)
      result.expect("\(what): text", row.text("text"), GuestTruth.shown(text, keepingLines: true))
    }
    return result
  }

  package var modules: Result {
    var result = Result("guest_module")
    var rows: [String: GuestRow] = [:]
    for row in tables["guest_module"] { rows[row.text("name") ?? ""] = row }
    for line in truth.lines("/proc/modules") {
      let parts = line.split(separator: " ").map(String.init)
      guard let row = rows.removeValue(forKey: parts[0]) else {
        result.missing(parts[0])
        continue
      }
      result.rowCount += 1
      result.expect("\(parts[0]): size", row.integer("size"), Int64(parts[1]))
      result.expect("\(parts[0]): references", row.integer("refcnt"), Int64(parts[2]))
      let users = parts[3] == "-" ? "" : String(parts[3].dropLast())
      result.expect("\(parts[0]): users", row.text("used_by"), users)
      result.expect("\(parts[0]): state", row.text("state"), parts[4])
      let base = row.integer("base").map { String(UInt64(bitPattern: $0), radix: 16) }
      result.expect("\(parts[0]): base", base, String(parts[5].drop { $0 == "0" || $0 == "x" }))
      let taints = parts.count > 6 ? parts[6].trimmingPrefix("(").prefix { $0 != ")" } : ""
      result.expect("\(parts[0]): taints", row.text("taints"), String(taints))
    }
    for name in rows.keys { result.extra("module \(name)") }
    return result
  }
}
