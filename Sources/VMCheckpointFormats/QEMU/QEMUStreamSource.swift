import VMCheckpoint

/// Where a QEMU migration stream comes from.
public enum QEMUStreamSource: Sendable, Hashable {
  /// A file that holds one, such as `migrate "exec:cat > FILE"` wrote.
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
