import Foundation
import Glibc

/// What QEMU tells about the VM that it runs.
struct QEMUVirtualMachine {
  /// Such as `7.2.22 (Debian 1:7.2+dfsg-7)`.
  var version: String
  /// The run state, such as `running`.
  var state: String
  /// The memory backend's id, which is the RAM block's name as well.
  var ramBlockName: String?
  /// Where RAM can be read in place, if it can.
  var ramPath: String?
  var commandLine: [String]?
  var workingDirectory: String?
  /// Whether RAM may be sent while the guest runs. KVM tells which pages a guest writes meanwhile;
  /// QEMU's own emulation misses some (seen with 7.2: of 28 guests with two CPUs that migrated
  /// through a plain file while they ran, 6 crashed or hung, and none of 14 that were stopped).
  var tracksWrites: Bool
  var capabilities: [String: Bool]
  var parameters: [String: Int64]

  /// 1 MiB: Linux takes longer command lines, and QEMU's have a few KiB.
  private static let maximumCommandLineByteCount = 1 << 20

  /// States in which a migration can begin and from which the VM can go on. (QEMU migrates no VM
  /// that a migration has left stopped, which is "postmigrate".)
  private static let usableStates: Set<String> = ["running", "paused", "prelaunch"]

  /// - Throws: ``VMCheckpointError``: `unavailable` when the VM is in a state that cannot be saved.
  init(_ client: QMPClient) throws(VMCheckpointError) {
    let version = try client.object("query-version")
    let numbers = version["qemu"] as? [String: Any] ?? [:]
    let dotted = ["major", "minor", "micro"].map { "\(numbers[$0] as? Int ?? 0)" }
      .joined(separator: ".")
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
    let process = client.peerProcess
    if let process, let arguments = Self.commandLine(of: process) {
      commandLine = arguments
      workingDirectory = Self.linkTarget("/proc/\(process)/cwd")
    }
    let backend =
      (try? client.run("qom-get", ["path": "/machine", "property": "memory-backend"])) as? String
    guard let backend, !backend.isEmpty else { return }
    ramBlockName = backend.split(separator: "/").last.map(String.init)
    ramPath = Self.ramPath(backend, client, process: process)
  }

  /// Where the RAM of a shared backend can be read; `nil` where it is not shared or not found.
  private static func ramPath(_ backend: String, _ client: QMPClient, process: Int32?) -> String? {
    func property(_ name: String) -> Any? {
      try? client.run("qom-get", ["path": backend, "property": name])
    }
    guard property("share") as? Bool == true,
      let byteCount = (property("size") as? NSNumber)?.int64Value,
      (property("offset") as? NSNumber)?.int64Value ?? 0 == 0
    else { return nil }
    switch property("type") as? String {
    case "memory-backend-file":
      guard let path = property("mem-path") as? String else { return nil }
      // A relative path is QEMU's; and QEMU may see other files than we do.
      guard let process else { return path.hasPrefix("/") && fits(path, byteCount) ? path : nil }
      return descriptorPath(process, byteCount) { $0 == path || $0.hasSuffix("/\(path)") }
    case "memory-backend-memfd":
      guard let process else { return nil }
      return descriptorPath(process, byteCount) { $0.hasPrefix("/memfd:memory-backend-memfd") }
    default: return nil
    }
  }

  /// QEMU's one open file that `isRight` by its name and has `byteCount` bytes.
  private static func descriptorPath(
    _ process: Int32,
    _ byteCount: Int64,
    _ isRight: (String) -> Bool
  ) -> String? {
    let directory = "/proc/\(process)/fd"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    let paths = names.map { "\(directory)/\($0)" }.filter { path in
      linkTarget(path).map(isRight) == true && fits(path, byteCount)
    }
    return paths.count == 1 ? paths[0] : nil
  }

  private static func fits(_ path: String, _ byteCount: Int64) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
      && status.st_size == byteCount && access(path, R_OK) == 0
  }

  private static func linkTarget(_ path: String) -> String? {
    try? FileManager.default.destinationOfSymbolicLink(atPath: path)
  }

  /// The arguments of the process, if it looks like QEMU and not like something that relays QMP.
  private static func commandLine(of process: Int32) -> [String]? {
    guard let file = FileHandle(forReadingAtPath: "/proc/\(process)/cmdline"),
      let data = try? file.read(upToCount: maximumCommandLineByteCount + 1),
      data.count <= maximumCommandLineByteCount
    else { return nil }
    let arguments = data.dropLast().split(separator: 0, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
    guard let program = arguments.first?.split(separator: "/").last,
      program.contains("qemu") || program.contains("kvm")
    else { return nil }
    return arguments
  }
}
