import Glibc
import SystemPackage
import VMCheckpoint
import VMCheckpointFormats

/// What `run.sh` of a restored VM of QEMU's starts `vmckpt` with to look at the VM's disks, or to make overlays for
/// them. Not for users, and so no command of ArgumentParser's.
///
/// `vmckpt __qemu-disks check` or `vmckpt __qemu-disks overlay FOLDER`, with the recorded disks in JSON as standard
/// input. Relative names begin in the working directory.
enum DisksCommand {
  /// A description of a thousand disks has some hundred KiB.
  private static let maximumByteCount = 16 << 20

  /// Does the work if this process was started for that.
  ///
  /// - Returns: The exit code; `nil`: it was not.
  static func runIfAsked(_ arguments: [String]) -> Int32? {
    guard arguments.count > 2, arguments[1] == QEMURunScript.diskCommand else { return nil }
    do throws(VMCheckpointError) {
      let disks = try RecordedDisks(json: input())
      switch (arguments[2], arguments.count) {
      case (DiskMode.check.rawValue, 3):
        try disks.check()
      case (DiskMode.overlay.rawValue, 4):
        try disks.check(forOverlays: true)
        _ = try disks.overlays(in: arguments[3])
      default:
        throw VMCheckpointError(.invalidArgument, "this is for run.sh of a restored VM")
      }
      return SysExit.ok
    } catch {
      let report = ErrorReport(error)
      try? OutputDescriptor(descriptor: STDERR_FILENO).write(report.line)
      return report.status.shellCode
    }
  }

  private static func input() throws(VMCheckpointError) -> [UInt8] {
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= maximumByteCount {
      let count = read(STDIN_FILENO, &block, block.count)
      if count > 0 {
        bytes += block[..<count]
      } else if count == 0 {
        return bytes
      } else if errno != EINTR {
        throw VMCheckpointError(
          .inputOutput,
          "cannot read the description of disks: \(Errno(rawValue: errno))"
        )
      }
    }
    throw .invalidData("the description of disks is too long")
  }
}
