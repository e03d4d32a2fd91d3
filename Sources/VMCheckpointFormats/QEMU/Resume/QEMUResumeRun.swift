import CLinux
import Foundation
import Glibc
import SystemPackage
import VMCheckpoint

/// A QEMU that was started, and the server that gives it its pages.
struct QEMUResumeRun {
  private static let servingMicroseconds: UInt32 = 20_000
  private static let runningMicroseconds: UInt32 = 200_000
  /// How long QEMU has to end after it was asked to.
  private static let endSeconds = 20.0
  /// QEMU listens once it has made its machine.
  private static let monitorSeconds = 60.0
  private static let connectMicroseconds: UInt32 = 2000

  let request: QEMUResumeRequest
  let storePath: String
  private let uuid: String
  let blocks: [QEMUMachineRecord.RAMBlock]
  let scratch: PrivateDirectory
  let control: OperationControl
  /// No lease of this guest is older.
  let begunAt = UTCTime.now
  var qemu: pid_t = 0
  var server: pid_t?
  /// Connected before the guest runs: later QEMU may not answer.
  var monitor: QMPClient?
  private(set) var serverCount = 0
  /// Whether a server was killed, and no other has come yet.
  var needsServer = false
  var recoveryCount = 0
  /// When the next one is tried.
  var recoveryAt = 0.0
  /// What the last server printed.
  private(set) var report: String?
  /// Where the guest's folder is mounted.
  private var mountPath: String?
  /// The error of a server that ended with one.
  var failure: VMCheckpointError?

  init(
    _ request: QEMUResumeRequest,
    storePath: String,
    uuid: String,
    blocks: [QEMUMachineRecord.RAMBlock],
    _ scratch: PrivateDirectory,
    _ control: OperationControl
  ) {
    self.request = request
    self.storePath = storePath
    self.uuid = uuid
    self.blocks = blocks
    self.scratch = scratch
    self.control = control
  }

  // MARK: Start

  /// Starts QEMU and a server at the two ends of a connection.
  mutating func startWithPostcopy(
    _ line: QEMUResumeCommandLine,
    isStopped: Bool
  ) throws(VMCheckpointError) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.inputOutput, "cannot make a socket: \(code)").orOutOfResources(code)
    }
    defer { for end in ends { close(end) } }
    // QEMU alone inherits this end. Standard streams are below it.
    _ = fcntl(ends[1], F_SETFD, 0)
    try startQEMU(
      line.postcopy(
        from: ends[1],
        isStopped: isStopped,
        monitorPath: scratch.file(QEMUResumeCommandLine.monitorName)
      ),
      in: line.workingDirectory
    )
    _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
    // The server looks at the snapshot, and brings pages, while QEMU starts.
    var gate: [Int32] = [-1, -1]
    defer { for end in gate where end >= 0 { close(end) } }
    do throws(VMCheckpointError) {
      guard clinux_pipe(&gate) == 0 else {
        let code = Errno(rawValue: errno)
        throw VMCheckpointError(.inputOutput, "cannot make a pipe: \(code)").orOutOfResources(code)
      }
      try startServer(on: ends[0], recovered: nil, startsAt: gate[0])
      monitor = try connectMonitor()
    } catch {
      stop()
      close(gate[1])
      gate[1] = -1
      endUnusedServer()
      throw error
    }
    if monitor != nil {
      var go: UInt8 = 1
      _ = BrokenPipe.withoutSignal { write(gate[1], &go, 1) }
    } else {
      // QEMU has ended, and says why.
      close(gate[1])
      gate[1] = -1
      endUnusedServer()
    }
  }

  /// Waits for the end of a server that has served nobody.
  private mutating func endUnusedServer() {
    guard let process = server else { return }
    server = nil
    let deadline = MonotonicClock.nowSeconds + Self.endSeconds
    while Self.status(of: process) == nil {
      if MonotonicClock.nowSeconds > deadline {
        kill(process, SIGKILL)
        _ = waitpid(process, nil, 0)
        return
      }
      usleep(Self.servingMicroseconds)
    }
  }

  /// - Returns: `nil` when QEMU has ended.
  private func connectMonitor() throws(VMCheckpointError) -> QMPClient? {
    let deadline = MonotonicClock.nowSeconds + Self.monitorSeconds
    while true {
      do throws(VMCheckpointError) {
        return try QMPClient(
          path: scratch.file(QEMUResumeCommandLine.monitorName),
          outOfBand: true,
          cancellation: control.cancellation
        )
      } catch {
        if hasQEMUEnded { return nil }
        guard [.notFound, .unavailable].contains(error.code),
          MonotonicClock.nowSeconds < deadline
        else { throw error }
      }
      usleep(Self.connectMicroseconds)
    }
  }

  /// Restores a directory, and starts QEMU from it.
  mutating func startRestored(
    _ line: QEMUResumeCommandLine,
    store: Store
  ) throws(VMCheckpointError) {
    let path = scratch.file("guest")
    _ = try store.restore(
      RestoreRequest(
        reference: try SnapshotReference(uuid),
        output: .file(path: path),
        format: .qemu,
        overlays: request.overlays,
        tscFrequencyHz: request.tscFrequencyHz,
        cpuVendor: request.cpuVendor
      ),
      control: control
    )
    try startQEMU(line, restoredIn: path)
  }

  /// Mounts the snapshot, and starts QEMU from its folder. The mount's server outlives this process if that is killed, as
  /// QEMU does.
  mutating func startMounted(
    _ line: QEMUResumeCommandLine,
    name: String
  ) throws(VMCheckpointError) {
    let directory = scratch.file("mount")
    guard mkdir(directory, 0o700) == 0, let components = MountName.components(ofSnapshot: name)
    else {
      throw VMCheckpointError(.cannotCreate, "cannot create directory \(quotedName(directory))")
    }
    try mount(on: directory)
    mountPath = directory
    do throws(VMCheckpointError) {
      let folder = ([directory, MountName.byName] + components).joined(separator: "/")
      let ramNames = QEMUMountForm.ramNames(in: folder, blockCount: blocks.count)
      try startQEMU(line, restoredIn: folder, ramNames: ramNames)
    } catch {
      endMount()
      throw error
    }
  }

  /// Runs `vmckpt mount`, which ends when the mount answers.
  private mutating func mount(on directory: String) throws(VMCheckpointError) {
    var command = request.ownCommand + ["mount", uuid, directory, "--json", "--store", storePath]
    if let seconds = request.recordingSeconds { command += ["--record-working-set", "\(seconds)"] }
    let output = try openReport()
    defer { close(output) }
    let process = try ChildProgram.start(
      command,
      package: "vmckpt",
      streams: .init(input: nil, output: nil, error: output),
      hasOwnSession: true
    )
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    guard status != 0 else { return }
    noteReport(exitCode: status & 0x7f == 0 ? status >> 8 & 0xff : 1, warns: false)
    throw VMCheckpointError(
      failure?.code ?? .unavailable,
      failure?.message ?? "the snapshot cannot be mounted",
      hint: "restore the guest first, with: vmckpt resume REF --lazy none"
    )
  }

  /// Takes the guest's mount away, whose QEMU is gone, and waits until its server has given its lease back.
  private mutating func endMount() {
    guard let directory = mountPath else { return }
    mountPath = nil
    do throws(VMCheckpointError) {
      _ = try StoreMount.unmount(directory, isLazy: true)
    } catch {
      control.onWarning?(error.message)
      return
    }
    guard let path = try? ResolvedPath.of(directory), let store = try? Store.open(at: storePath)
    else { return }
    let deadline = MonotonicClock.nowSeconds + Self.endSeconds
    while MonotonicClock.nowSeconds < deadline,
      (try? store.leases().contains { $0.target == path }) == true
    { usleep(Self.servingMicroseconds) }
  }

  /// Starts QEMU from a restored directory. The devices' state comes through a pipe: with `exec:` QEMU would start a
  /// shell, which one with `-sandbox spawn=deny` does not survive.
  private mutating func startQEMU(
    _ line: QEMUResumeCommandLine,
    restoredIn folder: String,
    ramNames: [String]? = nil
  ) throws(VMCheckpointError) {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.inputOutput, "cannot make a pipe: \(code)").orOutOfResources(code)
    }
    defer { for end in ends { close(end) } }
    let statePath = "\(folder)/\(QEMUDirectoryRestore.stateName)"
    let state = open(statePath, O_RDONLY | O_CLOEXEC)
    guard state >= 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.inputOutput, "cannot open \(quotedName(statePath)): \(code)")
        .orOutOfResources(code)
    }
    defer { close(state) }
    // Ends by itself, when QEMU has taken all or is gone. It has the file: its folder may go before it begins.
    let feeder = try ChildProgram.start(
      ["sh", "-c", "{ cat <&3 & } 3<&0"],
      package: "coreutils",
      streams: .init(input: state, output: ends[1], error: STDERR_FILENO)
    )
    var status: Int32 = 0
    while waitpid(feeder, &status, 0) < 0, errno == EINTR {}
    // QEMU alone inherits this end. Standard streams are below it.
    _ = fcntl(ends[0], F_SETFD, 0)
    try startQEMU(
      line.restored(in: folder, ramNames: ramNames, stateFrom: ends[0]),
      in: line.workingDirectory
    )
  }

  private mutating func startQEMU(
    _ command: [String],
    in directory: String?
  ) throws(VMCheckpointError) {
    var command = command
    if let directory {
      command = ["sh", "-c", #"cd -- "$1" && shift && exec "$@""#, "sh", directory] + command
    }
    qemu = try ChildProgram.start(
      command,
      package: "qemu-system-x86",
      streams: .init(input: STDIN_FILENO, output: STDOUT_FILENO, error: STDERR_FILENO)
    )
  }

  /// - Parameter start: Where it reads that QEMU may get the guest; `nil`: it may.
  mutating func startServer(
    on descriptor: Int32,
    recovered: String?,
    startsAt start: Int32? = nil
  ) throws(VMCheckpointError) {
    var command = request.ownCommand + ["serve", uuid, "--qemu", "--json", "--store", storePath]
    command += ["--overlays", request.overlays.rawValue]
    if let frequency = request.tscFrequencyHz { command += ["--tsc-frequency", "\(frequency)"] }
    if let vendor = request.cpuVendor { command += ["--cpu-vendor", vendor.rawValue] }
    if let seconds = request.recordingSeconds, recovered == nil {
      command += ["--record-working-set", "\(seconds)"]
    }
    let output = try openReport()
    defer { close(output) }
    var environment = ["\(QEMUPostcopy.processVariable)=\(qemu)"]
    if let recovered { environment.append("\(QEMUPostcopy.recoveryVariable)=\(recovered)") }
    // The server alone inherits these.
    var inherited: [Int32] = []
    defer { for descriptor in inherited { close(descriptor) } }
    for (variable, descriptor) in [
      (QEMUPostcopy.startVariable, start), (QEMUPostcopy.noticeVariable, request.noticeDescriptor),
    ] {
      guard let descriptor else { continue }
      let copy = fcntl(descriptor, F_DUPFD, 3)
      guard copy >= 0 else { continue }
      inherited.append(copy)
      environment.append("\(variable)=\(copy)")
    }
    // Ctrl-C is QEMU's; the server ends after it.
    server = try ChildProgram.start(
      command,
      package: "vmckpt",
      streams: .init(input: descriptor, output: descriptor, error: output),
      hasOwnSession: true,
      environment: environment
    )
    serverCount += 1
  }

  private func openReport() throws(VMCheckpointError) -> Int32 {
    let path = scratch.file("report")
    let output = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard output >= 0 else {
      throw VMCheckpointError(
        .cannotCreate,
        "cannot create \(quotedName(path)): \(Errno(rawValue: errno))"
      )
    }
    return output
  }

  // MARK: End

  /// Waits until QEMU ends, and looks after its server.
  ///
  /// - Returns: What `waitpid` says of QEMU.
  /// - Throws: ``VMCheckpointError`` when the guest never ran, because the server could not serve it.
  mutating func wait() throws(VMCheckpointError) -> Int32 {
    var deadline: Double?
    while true {
      if let status = Self.status(of: qemu) {
        // A server that failed before has ended QEMU; otherwise it is the other way round.
        let failure = failure
        endServer(warns: status & 0x7f == 0 && status != 0)
        endMount()
        if serverCount > 0 { dropLostLease() }
        if let failure, status != 0 { throw failure }
        return status
      }
      try look()
      if control.cancellation.isCancelled {
        let now = MonotonicClock.nowSeconds
        if deadline == nil {
          deadline = now + Self.endSeconds
          kill(qemu, SIGTERM)
        } else if now > deadline! {
          kill(qemu, SIGKILL)
        }
      }
      usleep(
        server != nil || deadline != nil ? Self.servingMicroseconds : Self.runningMicroseconds
      )
    }
  }

  /// Whether QEMU has ended; its status stays for ``wait()``.
  var hasQEMUEnded: Bool {
    var information = siginfo_t()
    waitid(P_PID, id_t(qemu), &information, WEXITED | WNOHANG | WNOWAIT)
    return information.si_signo == SIGCHLD
  }

  mutating func noteReport(exitCode: Int32, warns: Bool) {
    let text = (try? String(contentsOfFile: scratch.file("report"), encoding: .utf8)) ?? ""
    guard exitCode != 0 else {
      report = text
      return
    }
    let object = try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    let error = object?["error"] as? [String: Any]
    let message = error?["message"] as? String ?? "the server of the guest's pages failed"
    failure = VMCheckpointError(
      exitCode == 65 ? .corrupt : exitCode == 64 ? .invalidArgument : .unavailable,
      message,
      hint: error?["hint"] as? String
    )
    if warns { control.onWarning?(message) }
  }

  /// Ends the server, whose QEMU is gone.
  private mutating func endServer(warns: Bool) {
    guard let process = server else { return }
    let deadline = MonotonicClock.nowSeconds + Self.endSeconds
    while MonotonicClock.nowSeconds < deadline {
      if let status = Self.status(of: process) {
        if status & 0x7f == 0 { noteReport(exitCode: status >> 8 & 0xff, warns: warns) }
        server = nil
        return
      }
      usleep(Self.servingMicroseconds)
    }
    kill(process, SIGKILL)
    _ = waitpid(process, nil, 0)
    server = nil
  }

  private mutating func stop() {
    kill(qemu, SIGKILL)
    _ = waitpid(qemu, nil, 0)
  }

  /// What `waitpid` says of a process that has ended.
  static func status(of process: pid_t) -> Int32? {
    var status: Int32 = 0
    let result = waitpid(process, &status, WNOHANG)
    return result == process ? status : nil
  }
}
