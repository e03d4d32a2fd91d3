import Foundation
package import VMCheckpoint

/// The script that runs a restored VM in QEMU: the recorded command line, with RAM's backend and the
/// incoming state exchanged. It names its own directory at run time, so that it may be moved.
///
/// A recorded command line is a program. The script runs it without asking only for the user who recorded it, on
/// the host where that was (``CommandTrust``); else it shows it.
///
/// Names and arguments may be a stranger's. The shell and QEMU read bytes, so that everything here
/// looks at bytes as well: a `Character` may be a quotation mark together with an accent, which is
/// not equal to a quotation mark and yet ends a quoted word.
package struct QEMURunScript {
  private let record: QEMUMachineRecord
  private let trust: Trust
  private let diskProgram: String?
  /// The file of each block of RAM, beside the script.
  private let ramNames: [String]
  /// What the script says of where it comes from.
  private let origin: String

  /// Whether the command line runs without asking.
  package enum Trust: Sendable, Hashable {
    /// For who has the key at `keyPath` that has this fingerprint (``RecordedCommand``).
    case own(keyPath: String, fingerprint: String)
    /// For everybody: the user asked for it.
    case given
    /// For nobody, because of this.
    case none(CommandTrust.Reason)
  }

  /// The script for the VM that `record` describes.
  ///
  /// - Parameter diskProgram: The path of the `vmckpt` that looks at disks; where it is not there, the one in PATH.
  package init(_ record: QEMUMachineRecord, trust: Trust, diskProgram: String? = nil) {
    self.record = record
    self.trust = trust
    self.diskProgram = diskProgram
    ramNames = Self.restoredRAMNames(record)
    origin = Self.restoredOrigin
  }

  /// The files that a restore writes.
  private static func restoredRAMNames(_ record: QEMUMachineRecord) -> [String] {
    let count = record.ramBlocks.count
    return (0..<count).map { QEMUDirectoryRestore.ramName($0, of: count) }
  }

  private static let restoredOrigin = "'vmckpt restore --format qemu' restored"

  /// The script for a stored VM. Reads this user's key.
  ///
  /// - Parameters:
  ///   - trustsCommand: The user trusts the command line, whoever recorded it.
  ///   - ramNames: The file of each block of RAM, beside the script; `nil`: those that a restore writes.
  ///   - origin: What the script says of where it comes from; `nil`: from a restore.
  ///
  /// - Throws: ``VMCheckpointError`` when the description of disks cannot be used.
  init(
    _ state: QEMUStoredState,
    trustsCommand: Bool,
    ramNames: [String]? = nil,
    origin: String? = nil
  ) throws(VMCheckpointError) {
    record = state.record
    self.ramNames = ramNames ?? Self.restoredRAMNames(state.record)
    self.origin = origin ?? Self.restoredOrigin
    try record.disks?.requireSound(of: state.title)
    diskProgram = Self.ownPath
    guard !trustsCommand else {
      trust = .given
      return
    }
    switch RecordedCommand.judge(state.record, stream: state.stream) {
    case (_, let mark?): trust = .own(keyPath: mark.keyPath, fingerprint: mark.fingerprint)
    case (.untrusted(let reason), nil): trust = .none(reason)
    case (.ownRecord, nil): trust = .none(.noKey)
    }
  }

  /// This process's program, if it is `vmckpt` and not another that uses the library.
  private static var ownPath: String? {
    guard
      let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
      path.split(separator: "/").last == "vmckpt"
    else { return nil }
    return path
  }

  /// Why the command line that is there does not run without asking; `nil`: it does, or there is none.
  var reasonToAsk: CommandTrust.Reason? {
    guard record.commandLine?.isEmpty == false, case .none(let reason) = trust else { return nil }
    return reason
  }

  /// For bash. Everything that was recorded is quoted.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when something recorded has a NUL,
  ///   which neither a script nor an argument can have.
  package func text() throws(VMCheckpointError) -> String {
    try requireNoNUL()
    var lines = ["#!/bin/bash", "# Runs the VM that \(origin). RAM is mapped privately and the"]
    lines += Self.head
    var nodesNameBackends = "no"
    if let words = record.commandLine, !words.isEmpty {
      var commandLine = QEMUCommandLine(words)
      commandLine.keepRestored(ramBlocks: record.ramBlocks)
      lines += trustLines(commandLine)
      lines += ["if [[ $trust == yes ]]; then"]
      lines += runLines(commandLine).map { "  \($0)" }
      if commandLine.nodesName(ramBlocks: record.ramBlocks) { nodesNameBackends = "yes" }
      lines += ["  nodes=\(nodesNameBackends)", "else"]
      lines += askLines(commandLine).map { "  \($0)" }
      lines += ["fi"]
    } else {
      lines += Self.ownCommandLines
    }
    return (lines + endLines).joined(separator: "\n") + "\n"
  }

  // MARK: Parts of the script

  private static let head = #"""
    # files are only read, so that any number of clones may run from them at once. Network and
    # sockets are those of the command line. VMCKPT_WORKING_DIRECTORY is where relative paths begin,
    # if not where they did when the VM was saved.
    set -euo pipefail
    here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
    # QEMU's options end at a comma, unless there are two.
    path=${here//,/,,}
    usage() {
      cat <<'USAGE'
    Usage: run.sh [--trust-command] [--disks check|overlay|as-is] [--] [QEMU's arguments...]

      --trust-command  runs the recorded command line although another user or host recorded it
      --disks check    uses the disks if they are as they were when the VM was saved, and not in
                       use (default)
      --disks overlay  the same, but what the VM writes goes to overlays, which are removed when
                       QEMU ends; clones need this
      --disks as-is    uses the disks, whatever they hold

    Arguments are added to QEMU's. Where no command line was recorded, or it is not trusted, give
    your own: run.sh qemu-system-x86_64 ARGUMENTS...
    USAGE
    }
    fail() {
      printf 'run.sh: %s\n' "$2" >&2
      exit "$1"
    }
    trust=no
    disks=check
    nodes=no
    while (($#)); do
      case $1 in
        --trust-command) trust=yes ;;
        --disks)
          (($# > 1)) || fail 64 "--disks needs a value: check, overlay or as-is"
          disks=$2
          shift
          ;;
        --disks=*) disks=${1#--disks=} ;;
        -h | --help) usage && exit 0 ;;
        --)
          shift
          break
          ;;
        *) break ;;
      esac
      shift
    done
    case $disks in
      check | overlay | as-is) ;;
      *) fail 64 "--disks is check, overlay or as-is" ;;
    esac
    """#.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)

  /// Whose command line it is that must be given.
  private static let ownCommandLines = #"""
    if (($# == 0)); then
      echo "Usage: $0 qemu-system-x86_64 ARGUMENTS...  (as the VM was started)" >&2
      exit 64
    fi
    [[ $disks != overlay ]] || fail 64 "the disks were not recorded: no overlays can be made"
    command=("$@")
    """#.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)

  /// Finds out whether the command line runs without asking, and says why not in `why`.
  private func trustLines(_ commandLine: QEMUCommandLine) -> [String] {
    switch trust {
    case .given: return ["trust=yes"]
    case .none(let reason): return ["why=\(Self.quoted("\(reason)"))"]
    case .own(let keyPath, let fingerprint):
      // That is no defence: who can write a script can leave it out. It asks before a copy of this directory runs
      // for somebody else.
      return [
        "why='it was recorded by another user or on another host, or this user'\\''s key is gone'",
        "key=\(Self.quoted(keyPath))",
        "mark=$({ { printf 'vmckpt run.sh\\n' && cat -- \"$key\"; } | sha256sum; } 2>/dev/null) || mark=",
        "if [[ -O $key && $mark == '\(fingerprint)  -' ]]; then trust=yes; fi",
      ]
    }
  }

  /// Shows a command line that is not trusted, or takes another.
  private func askLines(_ commandLine: QEMUCommandLine) -> [String] {
    let shown = commandLine.words.map {
      "    " + quotedName($0, maximumScalarCount: .max)
    }
    var lines = [
      "if (($#)) && [[ $1 != -* ]]; then",
      "  [[ $disks != overlay ]] || fail 64 \"overlays are made for the recorded command line only\"",
      "  command=(\"$@\")",
      "else",
      "  {",
      "    printf 'run.sh: the recorded command line is not trusted: %s\\n' \"$why\"",
      "    printf '%s\\n' 'It is a program, and would run this:' \\",
    ]
    lines += shown.map { "      \(Self.quoted($0)) \\" }
    if let directory = record.workingDirectory {
      let line = "in the folder " + quotedName(directory, maximumScalarCount: .max)
      lines.append("      \(Self.quoted(line)) \\")
    }
    lines += [
      "      'Read it. If you trust it, say so: run.sh --trust-command' \\",
      "      'Or give a command line of your own: run.sh qemu-system-x86_64 ARGUMENTS...'",
      "  } >&2",
      "  exit 77",
      "fi",
    ]
    return lines
  }

  /// Goes to where the VM ran, looks at its disks, and makes the command.
  private func runLines(_ commandLine: QEMUCommandLine) -> [String] {
    var lines: [String] = []
    if let directory = record.workingDirectory {
      lines.append("directory=\(Self.quoted(directory))")
      lines.append(#"cd -- "${VMCKPT_WORKING_DIRECTORY:-$directory}""#)
    }
    lines += diskLines(commandLine)
    lines += ["command+=(\"$@\")"]
    return lines
  }

  private func diskLines(_ commandLine: QEMUCommandLine) -> [String] {
    let command = Self.arrayLines(commandLine.words.map(Self.quoted))
    guard let disks = record.disks else {
      return [
        "[[ $disks != overlay ]] || fail 64 \"the disks were not recorded: no overlays can be made\"",
        "[[ $disks != check ]] || echo 'run.sh: the disks were not recorded, and are not checked' >&2",
      ] + command
    }
    guard !disks.disks.isEmpty else { return command }
    var lines = [
      "if [[ $disks != as-is ]]; then",
      "  vmckpt=\(Self.quoted(diskProgram ?? ""))",
      "  [[ -x $vmckpt ]] || vmckpt=$(type -P vmckpt) ||",
      "    fail 69 \"no vmckpt is in PATH to look at the disks; see --disks as-is\"",
      "  recorded=\(Self.quoted(disks.json))",
      "fi",
      "if [[ $disks == check ]]; then",
      "  \"$vmckpt\" \(Self.diskCommand) check <<<\"$recorded\"",
      "fi",
      "if [[ $disks == overlay ]]; then",
    ]
    lines += overlayLines(commandLine, disks).map { "  \($0)" }
    lines += ["else"]
    lines += command.map { "  \($0)" }
    lines += ["fi"]
    return lines
  }

  /// The first argument of `vmckpt` when a script asks it about disks.
  package static let diskCommand = "__qemu-disks"

  private func overlayLines(
    _ commandLine: QEMUCommandLine,
    _ disks: RecordedDisks
  ) -> [String] {
    // Where the folder's path belongs. Nothing that was recorded can have it by chance.
    let mark = "@\(UniqueID.make())@"
    let words: [String]
    do throws(VMCheckpointError) {
      let overlays = disks.disks.enumerated().map { index, disk in
        DiskOverlay(disk: disk, path: RecordedDisks.overlayPath(index, in: mark))
      }
      words = try QEMUDiskReplacement.replacing(overlays, in: commandLine).words
    } catch {
      return ["fail 64 \(Self.quoted("\(error)"))"]
    }
    let quotedWords = words.map { word in
      word.components(separatedBy: mark).map(Self.quoted).joined(separator: #""$overlays""#)
    }
    return [
      #"overlays=$(mktemp -d -- "${TMPDIR:-/var/tmp}/vmckpt-overlays.XXXXXXXX")"#,
      #"trap 'rm -rf -- "$overlays"' EXIT"#,
      // It becomes part of QEMU's options, in two notations.
      #"[[ $overlays != *[!A-Za-z0-9/._-]* ]] || fail 64 "TMPDIR may have letters, digits and /._- only""#,
      "\"$vmckpt\" \(Self.diskCommand) overlay \"$overlays\" <<<\"$recorded\"",
    ] + Self.arrayLines(quotedWords)
  }

  /// `command` with these words, which are quoted.
  private static func arrayLines(_ words: [String]) -> [String] {
    ["command=("] + words.map { "  \($0)" } + [")"]
  }

  private var endLines: [String] {
    let machine = "type=\(QEMUOptionText.escapingCommas(record.machine))"
    let backend = QEMUOptionText.escapingCommas(record.ramBlocks[0].backendID)
    var lines: [String] = []
    for (index, block) in record.ramBlocks.enumerated() {
      let name = ramNames[index]
      let id = QEMUOptionText.escapingCommas(block.backendID)
      let backend =
        "memory-backend-file,id=\(id),size=\(block.byteCount),share=off"
        + "\(record.backendNaming(block)),mem-path="
      lines.append(#"command+=(-object \#(Self.quoted(backend))"$path/\#(name)")"#)
    }
    lines += [
      "if [[ $nodes == yes ]]; then",
      "  command+=(-machine \(Self.quoted(machine)))",
      "else",
      "  command+=(-machine \(Self.quoted("\(machine),memory-backend=\(backend)")))",
      "fi",
      "exec 9< <(exec cat -- \"$here/\(QEMUDirectoryRestore.stateName)\")",
    ]
    if record.disks?.disks.isEmpty == false {
      lines += Self.cleaningLines
    }
    lines += ["exec \"${command[@]}\" -incoming fd:9"]
    return lines
  }

  /// Removes overlays when QEMU has ended, however it ended: it has the only end of a pipe that is written to.
  private static let cleaningLines = #"""
    if [[ -n ${overlays:-} ]]; then
      exec 8> >(
        trap '' HUP INT QUIT TERM
        exec 9<&- >/dev/null 2>&1
        cat
        rm -rf -- "$overlays"
      )
      trap - EXIT
    fi
    """#.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)

  /// One word for the shell, whatever is in it but NUL.
  static func quoted(_ word: String) -> String {
    let mark = UInt8(ascii: "'")
    return "'" + QEMUOptionText.replacing(mark, with: Array(#"'\''"#.utf8), in: word) + "'"
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
