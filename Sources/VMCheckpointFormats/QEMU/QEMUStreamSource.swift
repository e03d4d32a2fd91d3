import Glibc
import SystemPackage
import VMCheckpoint

/// Where a QEMU migration stream comes from.
public enum QEMUStreamSource: Sendable, Hashable {
  /// A file that holds one, such as `migrate "exec:cat > FILE"` wrote; or `unix:PATH`, a socket that is made and waits
  /// for QEMU's `migrate "unix:PATH"`.
  case file(path: String)

  /// A pipe or socket that is read to its end. The descriptor stays the caller's.
  case descriptor(Int32, name: String)

  /// As in the command line.
  var description: String {
    switch self {
    case .file(let path): path
    case .descriptor: "-"
    }
  }

  /// For messages and for the snapshot's name.
  var name: String {
    switch self {
    case .file(let path): path
    case .descriptor(_, let name): name
    }
  }
}

extension QEMUStreamSource {
  /// The file, if it is one.
  var path: String? {
    guard case .file(let path) = self, !path.hasPrefix(MigrationListener.prefix) else { return nil }
    return path
  }

  /// What is saved from here is called after the file.
  ///
  /// - Parameter scheme: The format's name.
  func names(scheme: String) -> CaptureNames {
    let last = CaptureNames.lastComponent(of: name)
    return CaptureNames(snapshot: last, vm: last, description: "\(scheme):\(description)")
  }

  /// Calls `body` with a descriptor to read from. A file is opened before and closed after.
  ///
  /// - Parameter title: What messages call the source.
  /// - Throws: ``VMCheckpointError``: `notFound`, `permissionDenied`, `inputOutput` or `cancelled`; what `body`
  ///   throws.
  func withDescriptor<Result>(
    title: String,
    _ cancellation: CancellationFlag,
    _ body: (Int32) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    switch self {
    case .descriptor(let descriptor, _): return try body(descriptor)
    case .file(let path) where path.hasPrefix(MigrationListener.prefix):
      let listener = try MigrationListener(
        path: String(path.dropFirst(MigrationListener.prefix.count))
      )
      let connection = try listener.accept(cancellation)
      defer { close(connection) }
      return try body(connection)
    case .file(let path):
      var opened = try ResolvedPath.open(source: path)
      // A pipe by name waits for its writer; a signal ends the wait.
      while opened == nil, errno == EINTR {
        try cancellation.check()
        opened = try ResolvedPath.open(source: path)
      }
      guard let opened else { throw VMCheckpointError.cannotOpen(title, Errno(rawValue: errno)) }
      defer { close(opened) }
      return try body(opened)
    }
  }
}
