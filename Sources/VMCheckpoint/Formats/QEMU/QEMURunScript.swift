import Foundation

/// The script that runs a restored VM in QEMU: the recorded command line, with RAM's backend and the
/// incoming state exchanged. It names its own directory at run time, so that it may be moved.
struct QEMURunScript {
  private let record: QEMUMachineRecord

  init(_ record: QEMUMachineRecord) {
    self.record = record
  }

  /// Options with a value that do not belong to the restored VM.
  private static let droppedWithValue: Set<String> = ["incoming", "loadvm", "mem-path"]
  private static let dropped: Set<String> = ["S", "mem-prealloc"]

  /// For bash. Everything that was recorded is quoted.
  var text: String {
    var lines = [
      "#!/bin/bash",
      "# Runs the VM that 'vmckpt restore --format qemu' restored. RAM is mapped privately and the",
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
      lines.append(
        "cd -- \"${VMCKPT_WORKING_DIRECTORY:-\(Self.quotedDefault(directory))}\""
      )
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
    var machine = "type=\(record.machine)"
    if !nodesNameBackends { machine += ",memory-backend=\(record.ramBlocks[0].backendID)" }
    for (index, block) in record.ramBlocks.enumerated() {
      let name = QEMUDirectoryRestore.ramName(index, of: record.ramBlocks.count)
      let backend =
        "memory-backend-file,id=\(block.backendID),size=\(block.byteCount),share=off,mem-path="
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
      // What belongs to an option is no option, whatever it looks like.
      if Self.takesValue(value), index < arguments.count {
        kept.append(value)
        index += 1
      }
    }
    return (kept, nodesNameBackends)
  }

  private static func option(_ argument: String) -> String? {
    guard argument.hasPrefix("-"), argument.count > 1 else { return nil }
    return String(argument.drop { $0 == "-" })
  }

  /// QEMU's options are known to QEMU only; a word that is none itself is the value of the one before.
  private static func takesValue(_ following: String) -> Bool { !following.hasPrefix("-") }

  private func isBackend(_ id: String) -> Bool {
    record.ramBlocks.contains { $0.backendID == id }
  }

  /// The members of an option's value that are words, in either of QEMU's two notations.
  private static func members(_ value: String) -> [String: String] {
    if value.hasPrefix("{") {
      let json = try? JSONSerialization.jsonObject(with: Data(value.utf8)) as? [String: Any]
      return (json ?? [:]).compactMapValues { $0 as? String }
    }
    var members: [String: String] = [:]
    for part in value.split(separator: ",") {
      guard let equals = part.firstIndex(of: "=") else { continue }
      members[String(part[..<equals])] = String(part[part.index(after: equals)...])
    }
    return members
  }

  /// One word for the shell, whatever is in it.
  static func quoted(_ word: String) -> String {
    "'" + word.replacing("'", with: "'\\''") + "'"
  }

  /// The same within double quotes and a parameter's default.
  private static func quotedDefault(_ word: String) -> String {
    var result = ""
    for character in word.unicodeScalars {
      if "\\\"$`}".unicodeScalars.contains(character) { result += "\\" }
      result.unicodeScalars.append(character)
    }
    return result
  }
}
