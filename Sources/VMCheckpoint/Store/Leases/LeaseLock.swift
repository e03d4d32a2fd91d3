import CLinux
import Glibc
import SystemPackage

/// The lock that shows that somebody holds a lease: byte 16 + id of the store's lock file. No process is asked
/// whether it lives: numbers of processes mislead across containers.
enum LeaseLock {
  private static let firstByte: off_t = 16

  /// What the table allows.
  static let validIDs: ClosedRange<Int64> = 1...(1 << 40)

  private static func request(_ id: Int64) -> flock {
    var request = flock()
    request.l_type = Int16(F_WRLCK)
    request.l_whence = Int16(SEEK_SET)
    request.l_start = firstByte + off_t(id)
    request.l_len = 1
    return request
  }

  /// The lock file, opened.
  ///
  /// - Throws: ``VMCheckpointError``: `permissionDenied` or `inputOutput`.
  static func open(
    at location: StoreLocation,
    _ mode: StoreLock.Mode
  ) throws(VMCheckpointError) -> FileDescriptor {
    guard case .file(let descriptor) = try StoreLockFile(location, mode).open() else {
      throw VMCheckpointError(
        .permissionDenied,
        "the store's file system is mounted read-only, and has no lock file for leases"
      )
    }
    return descriptor
  }

  /// Takes the lock.
  ///
  /// - Returns: `false` when somebody else holds it.
  static func take(
    _ id: Int64,
    _ descriptor: FileDescriptor
  ) throws(VMCheckpointError) -> Bool {
    var request = request(id)
    while fcntl(descriptor.rawValue, clinux_f_ofd_setlk, &request) != 0 {
      switch errno {
      case EINTR: continue
      case EAGAIN, EACCES: return false
      case let code:
        throw VMCheckpointError(
          .inputOutput,
          "cannot lock lease \(id): \(Errno(rawValue: code))"
        )
      }
    }
    return true
  }

  /// Drops the lock.
  static func drop(_ id: Int64, _ descriptor: FileDescriptor) {
    var request = request(id)
    request.l_type = Int16(F_UNLCK)
    while fcntl(descriptor.rawValue, clinux_f_ofd_setlk, &request) != 0, errno == EINTR {}
  }

  /// Whether somebody else holds the lock. Where that cannot be found out, somebody may.
  static func isHeld(_ id: Int64, _ descriptor: FileDescriptor) -> Bool {
    guard validIDs.contains(id) else { return false }
    var request = request(id)
    while fcntl(descriptor.rawValue, clinux_f_ofd_getlk, &request) != 0 {
      guard errno == EINTR else { return true }
    }
    return request.l_type != Int16(F_UNLCK)
  }
}
