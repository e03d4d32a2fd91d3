import CLinux
import Glibc
import SystemPackage

/// The Unix socket on which VMMs hand over their userfaultfds.
enum UserfaultSocket {
  private static let backlog: Int32 = 64

  /// Makes the socket at `path`, with mode 0600, in place of one that nobody serves.
  ///
  /// - Throws: ``VMCheckpointError``: `cannotCreate`, `invalidArgument`, `permissionDenied`.
  static func listen(at path: String) throws(VMCheckpointError) -> Int32 {
    let name = "socket \(quotedName(path))"
    try removeAbandoned(path, name)
    let descriptor = try make(name)
    // A socket's file gets the mode of the socket.
    let result = fchmod(descriptor, 0o600) == 0 ? address(path) { bind(descriptor, $0, $1) } : -1
    guard result == 0, Glibc.listen(descriptor, backlog) == 0 else {
      let code = Errno(rawValue: errno)
      close(descriptor)
      throw VMCheckpointError(
        code == .permissionDenied ? .permissionDenied : .cannotCreate,
        "cannot make \(name): \(code)"
      ).orOutOfResources(code)
    }
    return descriptor
  }

  /// Which file is at a path.
  struct Identity: Hashable {
    private let device: dev_t
    private let inode: ino_t

    /// - Returns: `nil` when there is no socket at `path`.
    init?(path: String) {
      var status = stat()
      guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
      (device, inode) = (status.st_dev, status.st_ino)
    }
  }

  /// Removes the socket at `path` if it is still the one that was there: another server may have made its own.
  static func remove(_ path: String, if identity: Identity?) {
    guard let identity, Identity(path: path) == identity else { return }
    unlink(path)
  }

  /// Connects to the server at `path`.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, `unavailable`, `permissionDenied`, `invalidArgument`.
  static func connect(to path: String) throws(VMCheckpointError) -> Int32 {
    let name = "socket \(quotedName(path))"
    try checkLength(path, name)
    let descriptor = try make(name)
    guard address(path, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
      let code = Errno(rawValue: errno)
      close(descriptor)
      switch code {
      case .noSuchFileOrDirectory, .notDirectory:
        throw VMCheckpointError(.notFound, "there is no \(name)")
      case .permissionDenied:
        throw VMCheckpointError(.permissionDenied, "no permission to connect to \(name)")
      default:
        throw VMCheckpointError(.unavailable, "nobody serves at \(name): \(code)")
      }
    }
    return descriptor
  }

  private static func make(_ name: String) throws(VMCheckpointError) -> Int32 {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let descriptor = socket(AF_UNIX, type, 0)
    guard descriptor >= 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.cannotCreate, "cannot make \(name): \(code)").orOutOfResources(code)
    }
    return descriptor
  }

  private static func checkLength(
    _ path: String,
    _ name: String
  ) throws(VMCheckpointError) {
    guard (1...107).contains(path.utf8.count) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(name): the path of a socket has 1 to 107 bytes",
        hint: "change to its directory and give a relative path"
      )
    }
  }

  private static func removeAbandoned(
    _ path: String,
    _ name: String
  ) throws(VMCheckpointError) {
    try checkLength(path, name)
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw VMCheckpointError(.cannotCreate, "\(quotedName(path)) exists, and is not a socket")
    }
    do throws(VMCheckpointError) {
      close(try connect(to: path))
    } catch {
      guard error.code == .unavailable else { throw error }
      unlink(path)
      return
    }
    throw VMCheckpointError(
      .cannotCreate,
      "another program serves at \(name)",
      hint: "end that one, or give another path"
    )
  }

  /// - Precondition: The path fits into an address.
  private static func address(
    _ path: String,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    Swift.withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}
