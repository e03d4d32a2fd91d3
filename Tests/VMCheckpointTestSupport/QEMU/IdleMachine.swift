import Foundation

/// A machine of a real QEMU's that has never run: it is saved and restored in moments, and a restored one waits to
/// be let go on. QEMU is killed when the object goes away.
package final class IdleMachine {
  package let process: ChildProcess
  package let monitorPath: String
  package let workingDirectory: String

  /// Starts QEMU, and waits until its monitor answers.
  ///
  /// - Parameters:
  ///   - files: What is in its working directory.
  ///   - arguments: More of QEMU's.
  package init(
    _ name: String,
    in directory: TemporaryDirectory,
    qemu: QEMURelease = .system,
    files: [String: [UInt8]] = [:],
    arguments: [String] = []
  ) throws {
    workingDirectory = try directory.subdirectory(name)
    monitorPath = "\(workingDirectory)/qmp"
    for (name, bytes) in files { try writeFile("\(workingDirectory)/\(name)", bytes) }
    process = try ChildProcess(
      [
        "/usr/bin/env", "-C", workingDirectory, try qemu.program(), "-nodefaults",
        "-no-user-config", "-display", "none", "-machine", "q35,accel=tcg", "-m", "16M", "-S",
        "-qmp", "unix:qmp,server=on,wait=off", "-qmp", "unix:qmp2,server=on,wait=off",
      ] + arguments
    )
    _ = try monitor()
  }

  /// Runs a script of `vmckpt`'s in a directory of its own; does not wait for anything.
  package init(
    script: String,
    arguments: [String] = [],
    workingDirectory: String,
    environment: [String: String] = [:]
  ) throws {
    self.workingDirectory = workingDirectory
    monitorPath = "\(workingDirectory)/qmp"
    process = try ChildProcess(
      [script] + arguments,
      environment: ["VMCKPT_WORKING_DIRECTORY": workingDirectory].merging(environment) { $1 }
    )
  }

  /// A connection to QEMU's second monitor, so that the first is free for `vmckpt`.
  package func monitor() throws -> QMPConnection {
    do {
      return try QMPConnection(path: monitorPath + "2")
    } catch {
      throw TestSetupError("\(error); QEMU says: \(process.standardErrorSoFar)")
    }
  }

  /// Waits until what came in is there, and the machine waits to be let go on.
  package func awaitRestored() throws -> QMPConnection {
    let monitor = try monitor()
    try waitUntil("the machine is restored") {
      guard process.isRunning else { throw TestSetupError(process.standardErrorSoFar) }
      return try !["inmigrate", "restore-vm"].contains(monitor.status())
    }
    return monitor
  }

  /// Ends QEMU without warning.
  package func kill() throws {
    process.send(9)
    _ = try process.wait(timeoutSeconds: 20)
  }
}
