import Foundation

/// A row of a guest's table.
package struct GuestRow: CustomStringConvertible, Sendable {
  private var integers: [String: Int64] = [:]
  private var texts: [String: String] = [:]

  fileprivate init(_ values: [String: Any]) {
    for (column, value) in values {
      if let text = value as? String {
        texts[column] = text
      } else if let number = value as? NSNumber {
        integers[column] = number.int64Value
      }
    }
  }

  package func integer(_ column: String) -> Int64? { integers[column] }
  package func text(_ column: String) -> String? { texts[column] }

  package var description: String {
    let all = integers.map { "\($0)=\($1)" } + texts.map { "\($0)=\($1)" }
    return all.sorted().joined(separator: " ")
  }
}

/// All tables of a snapshot's guest, as the plain `sqlite3` shell shows them.
package struct GuestTables: Sendable {
  private var tables: [String: [GuestRow]] = [:]
  /// As /proc/kallsyms writes them.
  package let symbolLines: [Substring]

  /// Those with a row for each object, and what else is read beside all columns.
  package static let names = [
    "guest_os", "guest_process", "guest_thread", "guest_dmesg", "guest_module", "guest_mount",
    "guest_file", "guest_socket", "guest_mapping", "guest_netdev",
  ]

  /// - Parameter snapshot: A reference without quotes.
  package init(_ shell: ExtensionShell, _ snapshot: String) throws {
    let known = Set(
      try shell.run("SELECT name FROM vmckpt_help;").split(separator: "\n").map(String.init)
    )
    var script = ".mode json\n"
    for name in Self.names where known.contains(name) {
      script += ".print \u{1}\(name)\nSELECT *, note FROM \(name)('\(snapshot)');\n"
    }
    script += ".mode list\n.print \u{1}symbols\n"
    if known.contains("guest_symbol") {
      script += "SELECT printf('%016x %s %s', va, type, name) FROM guest_symbol('\(snapshot)');\n"
    }
    let outcome = try shell.start(script)
    guard outcome.succeeded, outcome.standardError.isEmpty else {
      throw TestSetupError("the guest's tables cannot be read: \(outcome.standardError)")
    }
    var symbols: [Substring] = []
    for part in outcome.text.split(separator: "\u{1}") {
      let end = part.firstIndex(of: "\n") ?? part.endIndex
      let (name, content) = (String(part[..<end]), part[end...].drop(while: { $0 == "\n" }))
      if name == "symbols" {
        symbols = content.split(separator: "\n")
        continue
      }
      // The shell prints nothing at all for a table without rows.
      guard !content.isEmpty else { continue }
      let rows = try JSONSerialization.jsonObject(with: Data(content.utf8)) as? [[String: Any]]
      tables[name] = rows?.map { GuestRow($0) }
    }
    symbolLines = symbols
  }

  package subscript(_ name: String) -> [GuestRow] { tables[name] ?? [] }
}
