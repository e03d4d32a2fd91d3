import Foundation
import Glibc
import VMCheckpoint

/// What QEMU reports about the VM that it runs.
struct QEMUVirtualMachine {
  /// Such as `7.2.22 (Debian 1:7.2+dfsg-7)`.
  var version: String
  /// What QEMU was told to call the VM (`-name`).
  var name: String?
  /// The machine's type with its version, such as `pc-q35-7.2`, if QEMU reports it.
  var type: String?
  /// The run state, such as `running`.
  var state: String
  var ram: QEMULiveRAM
  var commandLine: [String]?
  var workingDirectory: String?
  /// The disks that the guest may write to; `nil` when unknown.
  var disks: QEMUDiskSurvey?
  /// Whether QEMU runs as this user.
  var belongsToThisUser = false
  /// Whether memory may be sent while the guest runs. KVM reports which pages a guest writes
  /// meanwhile; QEMU's own emulation misses some. Seen with 7.2, in guests with two CPUs that
  /// migrated through a plain file: 6 of 28 that ran meanwhile crashed or hung, and none of 14 that
  /// were stopped.
  var tracksWrites: Bool
  /// Whether the guest goes on when a background snapshot fails or is cancelled. QEMU 7.2 leaves RAM
  /// write-protected then, with nobody to lift that: the guest waits for ever at its next write, which is what became
  /// of one whose save was killed. Seen with 10.0, which lifts it: 36 saves that were killed meanwhile did no harm. The
  /// releases between were not tried.
  var endsBackgroundSnapshots: Bool
  var capabilities: [String: Bool]
  var parameters: [String: Int64]

  /// From QEMU 8.1 on, `x-ignore-shared` leaves out files with a name only.
  private static let firstReleaseThatSendsMemfds = (8, 1)
  private static let firstReleaseThatEndsBackgroundSnapshots = (10, 0)

  /// States in which a migration can begin and from which the VM can go on. (QEMU migrates no VM
  /// that a migration has left stopped, which is "postmigrate".)
  private static let usableStates: Set<String> = ["running", "paused", "prelaunch"]

  /// - Throws: ``VMCheckpointError``: `unavailable` when the VM is in a state that cannot be saved.
  init(_ client: QMPClient) throws(VMCheckpointError) {
    let version = try client.object("query-version")
    let numbers = version["qemu"] as? [String: Any] ?? [:]
    let dotted = ["major", "minor", "micro"].map { "\(numbers[$0] as? Int ?? 0)" }
      .joined(separator: ".")
    let release = (numbers["major"] as? Int ?? 0, numbers["minor"] as? Int ?? 0)
    endsBackgroundSnapshots = release >= Self.firstReleaseThatEndsBackgroundSnapshots
    let package = version["package"] as? String ?? ""
    self.version = package.isEmpty ? dotted : "\(dotted) (\(package))"
    state = try client.object("query-status")["status"] as? String ?? ""
    guard Self.usableStates.contains(state) else {
      throw VMCheckpointError(
        .unavailable,
        "the VM is in state \(quotedName(state)) and cannot be saved",
        hint: state == "postmigrate"
          ? "an earlier save has left it stopped; let it go on first, with QMP's cont"
          : "wait until it runs or is paused"
      )
    }
    name = (try? client.object("query-name"))?["name"] as? String
    let suffix = "-machine"
    let typeName =
      (try? client.run("qom-get", ["path": "/machine", "property": "type"])) as? String
    if let typeName, typeName.hasSuffix(suffix) { type = String(typeName.dropLast(suffix.count)) }
    let migration = try client.object("query-migrate")["status"] as? String ?? "none"
    guard !QEMUUndo.isActive(migration) else {
      throw VMCheckpointError(
        .unavailable,
        "the VM is being migrated already",
        hint: "wait for that to end, or cancel it with migrate_cancel"
      )
    }
    let accelerator = try? client.object("query-kvm")
    tracksWrites = accelerator?["enabled"] as? Bool ?? false
    capabilities = [:]
    for entry in try client.run("query-migrate-capabilities") as? [[String: Any]] ?? [] {
      guard let name = entry["capability"] as? String, let isOn = entry["state"] as? Bool else {
        continue
      }
      capabilities[name] = isOn
    }
    parameters = [:]
    let all = try client.object("query-migrate-parameters")
    for name in ["max-bandwidth", "downtime-limit"] {
      parameters[name] = (all[name] as? NSNumber)?.int64Value
    }
    let process = client.peerProcess.map(QEMUProcess.init(id:))
    if let process, let arguments = process.commandLine {
      commandLine = arguments
      workingDirectory = process.workingDirectory
      belongsToThisUser = process.belongsToThisUser
      disks = QEMUDiskSurvey(client, process: process)
    }
    ram = try QEMULiveRAM(
      client,
      process: capabilities["x-ignore-shared"] == nil ? nil : process,
      mayReadMemfd: release < Self.firstReleaseThatSendsMemfds
    )
  }

  /// What of the command line `run.sh` cannot do again, a line each.
  var commandLineWarnings: [String] {
    guard let words = commandLine, !words.isEmpty else { return [] }
    let line = QEMUCommandLine(words)
    var warnings: [String] = []
    if let item = line.inheritedDescriptor {
      warnings.append(
        "the recorded command line cannot be run again as it is: "
          + "\(quotedName(item.words.joined(separator: " "))) names a descriptor that QEMU was started with, as by "
          + "libvirt; restore it with --format libvirt-save, or give run.sh a command line of your own"
      )
    }
    if workingDirectory == "/", let item = line.relativePathOfDaemon {
      warnings.append(
        "QEMU runs with -daemonize, and does not tell where "
          + "\(quotedName(item.words.joined(separator: " "))) begins: run.sh will look in /, unless "
          + "VMCKPT_WORKING_DIRECTORY says where"
      )
    }
    return warnings
  }
}
