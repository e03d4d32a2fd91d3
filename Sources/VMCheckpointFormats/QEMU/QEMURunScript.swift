import Foundation
package import VMCheckpoint

/// The script that runs a restored VM in QEMU: the recorded command line, with RAM's backend and the
/// incoming state exchanged. It names its own directory at run time, so that it may be moved.
///
/// Names and arguments may be a stranger's. The shell and QEMU read bytes, so that everything here
/// looks at bytes as well: a `Character` may be a quotation mark together with an accent, which is
/// not equal to a quotation mark and yet ends a quoted word.
package struct QEMURunScript {
  private let record: QEMUMachineRecord
  /// The file of each block of RAM.
  private let ramNames: [String]
  /// What the script says of where it comes from.
  private let origin: String

  /// The script for the VM that `record` describes, beside what `vmckpt restore` has written.
  package init(_ record: QEMUMachineRecord) {
    let blocks = record.ramBlocks
    self.init(
      record,
      ramNames: blocks.indices.map { QEMUDirectoryRestore.ramName($0, of: blocks.count) },
      origin: "'vmckpt restore --format qemu' restored"
    )
  }

  /// - Parameters:
  ///   - ramNames: The file of each block of RAM, beside the script.
  ///   - origin: What the script says of where it comes from.
  init(_ record: QEMUMachineRecord, ramNames: [String], origin: String) {
    self.record = record
    self.ramNames = ramNames
    self.origin = origin
  }

  /// Options with a value that do not belong to the restored VM.
  private static let droppedWithValue: Set<String> = ["incoming", "loadvm", "mem-path"]
  private static let dropped: Set<String> = ["S", "mem-prealloc"]

  /// For bash. Everything that was recorded is quoted.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when something recorded has a NUL,
  ///   which neither a script nor an argument can have.
  package func text() throws(VMCheckpointError) -> String {
    try requireNoNUL()
    var lines = [
      "#!/bin/bash",
      "# Runs the VM that \(origin). RAM is mapped privately and the",
      "# files are only read, so that any number of clones may run from them at once. Disks, network",
      "# and sockets are those of the command line.",
      "#",
      "# Arguments are appended to QEMU's. VMCKPT_WORKING_DIRECTORY is where relative paths begin,",
      "# if not where they did when the VM was saved.",
      "set -euo pipefail",
      #"here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"#,
      // QEMU's options end at a comma, unless there are two.
      "path=${here//,/,,}",
    ]
    if let directory = record.workingDirectory {
      lines.append("directory=\(Self.quoted(directory))")
      lines.append(#"cd -- "${VMCKPT_WORKING_DIRECTORY:-$directory}""#)
    }
    var nodesNameBackends = false
    if let commandLine = record.commandLine, !commandLine.isEmpty {
      let (arguments, areNamed) = kept(Array(commandLine.dropFirst()))
      nodesNameBackends = areNamed
      lines.append(
        "command=(\(([commandLine[0]] + arguments).map(Self.quoted).joined(separator: "\n  ")))"
      )
      lines.append("command+=(\"$@\")")
    } else {
      lines += [
        "if (($# == 0)); then",
        "  echo \"Usage: $0 qemu-system-x86_64 ARGUMENTS...  (as the VM was started)\" >&2",
        "  exit 64",
        "fi",
        "command=(\"$@\")",
      ]
    }
    var machine = "type=\(Self.escapingCommas(record.machine))"
    if !nodesNameBackends {
      machine += ",memory-backend=\(Self.escapingCommas(record.ramBlocks[0].backendID))"
    }
    for (index, block) in record.ramBlocks.enumerated() {
      let name = ramNames[index]
      let id = Self.escapingCommas(block.backendID)
      let backend = "memory-backend-file,id=\(id),size=\(block.byteCount),share=off,mem-path="
      lines.append(#"command+=(-object \#(Self.quoted(backend))"$path/\#(name)")"#)
    }
    lines += [
      "command+=(-machine \(Self.quoted(machine)))",
      "exec 9< <(exec cat -- \"$here/\(QEMUDirectoryRestore.stateName)\")",
      "exec \"${command[@]}\" -incoming fd:9",
    ]
    return lines.joined(separator: "\n") + "\n"
  }

  /// What stays of the recorded arguments, and whether NUMA nodes name backends.
  private func kept(_ arguments: [String]) -> (arguments: [String], nodesNameBackends: Bool) {
    var kept: [String] = []
    var nodesNameBackends = false
    var index = 0
    while index < arguments.count {
      let argument = arguments[index]
      let option = Self.option(argument)
      let value = index + 1 < arguments.count ? arguments[index + 1] : ""
      index += 1
      guard let option else {
        kept.append(argument)
        continue
      }
      if Self.dropped.contains(option) { continue }
      let isOwnBackend =
        option == "object" && Self.members(value)["id"].map(isBackend) == true
      if Self.droppedWithValue.contains(option) || isOwnBackend {
        index += 1
        continue
      }
      kept.append(argument)
      if option == "numa", Self.members(value)["memdev"].map(isBackend) == true {
        nodesNameBackends = true
      }
      // A value of an option is not an option, whatever it looks like.
      if Self.takesValue(value), index < arguments.count {
        kept.append(value)
        index += 1
      }
    }
    return (kept, nodesNameBackends)
  }

  /// The name of the option that `argument` is.
  private static func option(_ argument: String) -> String? {
    let bytes = argument.utf8
    guard bytes.first == hyphen, bytes.count > 1 else { return nil }
    return String(decoding: bytes.drop { $0 == hyphen }, as: UTF8.self)
  }

  /// Only QEMU knows its options; a word that is not an option is the value of the one before.
  private static func takesValue(_ following: String) -> Bool { following.utf8.first != hyphen }

  /// Swift's `==` takes different bytes for equal where Unicode calls them equivalent.
  private func isBackend(_ id: String) -> Bool {
    record.ramBlocks.contains { $0.backendID.utf8.elementsEqual(id.utf8) }
  }

  /// The members of an option's value that are words, in either of QEMU's two notations.
  private static func members(_ value: String) -> [String: String] {
    if value.utf8.first == UInt8(ascii: "{") {
      let json = try? JSONSerialization.jsonObject(with: Data(value.utf8)) as? [String: Any]
      return (json ?? [:]).compactMapValues { $0 as? String }
    }
    var members: [String: String] = [:]
    for part in parts(value) {
      guard let equals = part.firstIndex(of: UInt8(ascii: "=")) else { continue }
      members[String(decoding: part[..<equals], as: UTF8.self)] = String(
        decoding: part[(equals + 1)...],
        as: UTF8.self
      )
    }
    return members
  }

  // MARK: Bytes

  private static let hyphen = UInt8(ascii: "-")
  private static let comma = UInt8(ascii: ",")

  /// What commas separate in an option's value. Two commas are one that separates nothing.
  private static func parts(_ value: String) -> [[UInt8]] {
    let bytes = Array(value.utf8)
    var parts: [[UInt8]] = [[]]
    var index = 0
    while index < bytes.count {
      if bytes[index] != comma {
        parts[parts.count - 1].append(bytes[index])
      } else if index + 1 < bytes.count, bytes[index + 1] == comma {
        parts[parts.count - 1].append(comma)
        index += 1
      } else {
        parts.append([])
      }
      index += 1
    }
    return parts
  }

  /// `word` as one member's value in an option of QEMU's.
  private static func escapingCommas(_ word: String) -> String {
    replacing(comma, with: [comma, comma], in: word)
  }

  /// One word for the shell, whatever is in it but NUL.
  static func quoted(_ word: String) -> String {
    let mark = UInt8(ascii: "'")
    return "'" + replacing(mark, with: Array(#"'\''"#.utf8), in: word) + "'"
  }

  private static func replacing(
    _ byte: UInt8,
    with replacement: [UInt8],
    in word: String
  ) -> String {
    String(decoding: word.utf8.flatMap { $0 == byte ? replacement : [$0] }, as: UTF8.self)
  }

  private func requireNoNUL() throws(VMCheckpointError) {
    var recorded = [("the machine's type", record.machine)]
    recorded += record.ramBlocks.map { ("RAM block \(quotedName($0.name))", $0.name) }
    if let directory = record.workingDirectory {
      recorded.append(("QEMU's working directory", directory))
    }
    for (index, argument) in (record.commandLine ?? []).enumerated() {
      recorded.append(("argument \(index) of QEMU's command line", argument))
    }
    guard let bad = recorded.first(where: { $0.1.utf8.contains(0) }) else { return }
    throw .invalidData(
      "\(bad.0) has a NUL, which no script can hold",
      hint: "restore with --format qemu-stream, and start QEMU yourself"
    )
  }
}
