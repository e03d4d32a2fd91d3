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

  /// The backend's id: the block's name, of which old machine types have the whole path.
  private var backendID: String {
    record.ramBlock.split(separator: "/").last.map(String.init) ?? record.ramBlock
  }

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
      "ram=${here//,/,,}/\(QEMUDirectoryRestore.ramName)",
    ]
    if let directory = record.workingDirectory {
      lines.append(
        "cd -- \"${VMCKPT_WORKING_DIRECTORY:-\(Self.quotedDefault(directory))}\""
      )
    }
    var numaNamesBackend = false
    if let commandLine = record.commandLine, !commandLine.isEmpty {
      let (arguments, named) = kept(Array(commandLine.dropFirst()))
      numaNamesBackend = named
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
    if !numaNamesBackend { machine += ",memory-backend=\(backendID)" }
    let backend = "memory-backend-file,id=\(backendID),size=\(record.ramByteCount),share=off"
    lines += [
      "command+=(-object \(Self.quoted(backend + ",mem-path="))\"$ram\")",
      "command+=(-machine \(Self.quoted(machine)))",
      "exec 9< <(exec cat -- \"$here/\(QEMUDirectoryRestore.stateName)\")",
      "exec \"${command[@]}\" -incoming fd:9",
    ]
    return lines.joined(separator: "\n") + "\n"
  }

  /// What stays of the recorded arguments, and whether a NUMA node names the backend.
  private func kept(_ arguments: [String]) -> (arguments: [String], numaNamesBackend: Bool) {
    var kept: [String] = []
    var numaNamesBackend = false
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
      if Self.droppedWithValue.contains(option) || option == "object" && isBackend(value) {
        index += 1
        continue
      }
      kept.append(argument)
      if option == "numa", value.contains("memdev=\(backendID)") { numaNamesBackend = true }
      // What belongs to an option is no option, whatever it looks like.
      if Self.takesValue(value), index < arguments.count {
        kept.append(value)
        index += 1
      }
    }
    return (kept, numaNamesBackend)
  }

  private static func option(_ argument: String) -> String? {
    guard argument.hasPrefix("-"), argument.count > 1 else { return nil }
    return String(argument.drop { $0 == "-" })
  }

  /// QEMU's options are known to QEMU only; a word that is none itself is the value of the one before.
  private static func takesValue(_ following: String) -> Bool { !following.hasPrefix("-") }

  /// Whether an `-object` is the backend of the guest's RAM, in either of QEMU's two notations.
  private func isBackend(_ object: String) -> Bool {
    if object.hasPrefix("{") {
      let json = try? JSONSerialization.jsonObject(with: Data(object.utf8)) as? [String: Any]
      return json?["id"] as? String == backendID
    }
    return object.split(separator: ",").contains { $0 == "id=\(backendID)" }
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
