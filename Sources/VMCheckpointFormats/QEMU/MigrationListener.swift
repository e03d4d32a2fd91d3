import Glibc
import SystemPackage
import VMCheckpoint

/// A Unix socket that waits for one QEMU to send its migration stream.
///
/// `migrate exec:` starts a shell, which a QEMU with `-sandbox spawn=deny`, such as libvirt's, does not survive; `migrate
/// unix:` connects.
final class MigrationListener {
  /// What a path of a socket begins with, as QEMU has it.
  static let prefix = "unix:"

  private let path: String
  private let descriptor: Int32

  /// Makes the socket, for this user alone.
  ///
  /// - Throws: ``VMCheckpointError``: `cannotCreate` when there is something at `path` already, `permissionDenied`,
  ///   `invalidArgument`.
  init(path: String) throws(VMCheckpointError) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard !bytes.isEmpty, !bytes.contains(0),
      bytes.count < MemoryLayout.size(ofValue: address.sun_path)
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(quotedName(path)) cannot be the path of a socket, which has 1 to 107 bytes",
        hint: "change to its directory and give a relative path"
      )
    }
    Swift.withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(AF_UNIX, type, 0)
    let mask = umask(0o177)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    let error = Errno(rawValue: errno)
    umask(mask)
    guard descriptor >= 0, result == 0 else {
      if descriptor >= 0 { close(descriptor) }
      throw VMCheckpointError(
        [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
          ? .permissionDenied : .cannotCreate,
        "cannot make the socket \(quotedName(path)): \(error)",
        hint: error == .addressInUse
          ? "there is a file of that name; remove it if nobody listens there"
          : "give a path that can be made, and QEMU the same: migrate \"unix:PATH\""
      ).orOutOfResources(error)
    }
    self.path = path
    self.descriptor = descriptor
    guard listen(descriptor, 1) == 0 else {
      throw VMCheckpointError(
        .inputOutput,
        "cannot listen at the socket \(quotedName(path)): \(Errno(rawValue: errno))"
      )
    }
  }

  deinit {
    close(descriptor)
    unlink(path)
  }

  /// Waits for QEMU to connect.
  ///
  /// - Returns: A descriptor to read its stream from, which waits for bytes.
  func accept(_ cancellation: CancellationFlag) throws(VMCheckpointError) -> Int32 {
    while true {
      try cancellation.check()
      var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = Glibc.poll(&poll, 1, 200)
      let connection = Glibc.accept(descriptor, nil, nil)
      if connection >= 0 {
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        return connection
      }
      guard [EAGAIN, EINTR, ECONNABORTED].contains(errno) else {
        let error = Errno(rawValue: errno)
        throw VMCheckpointError(
          .inputOutput,
          "cannot take a connection at \(quotedName(path)): \(error)"
        )
        .orOutOfResources(error)
      }
    }
  }
}
