/// A file or folder of a mount, which the kernel knows by a number.
///
/// The kernel keeps these numbers for as long as it likes, and uses them to the server that comes after one that
/// was killed. So a number means the same to every server of every mount of the store, for ever: it is made of the
/// snapshot's row number, which is never given again, and of which file it is; or of the path's SHA-256 for what
/// is made of names alone. No server has a table of numbers that another would lack.
///
///     bits 63-60  59-16              15-0
///          0      1, 2 or 3: the root, `by-name`, `by-vm`
///          1      of the path's SHA-256: a folder or a link
///          2      snapshot           file, 0: its folder
package enum MountNode: Hashable, Sendable {
  case root
  case byName
  case byVM
  /// A folder or a link that is made of names.
  case named(UInt64)
  case snapshot(Int64)
  case file(snapshot: Int64, file: UInt16)

  private static let kindShift: UInt64 = 60
  private static let fileBits: UInt64 = 16
  /// The greatest row number that fits.
  package static let maximumSnapshotID: Int64 = (1 << 44) - 1

  package init?(_ number: UInt64) {
    let rest = number & ((1 << Self.kindShift) - 1)
    switch (number >> Self.kindShift, rest) {
    case (0, 1): self = .root
    case (0, 2): self = .byName
    case (0, 3): self = .byVM
    case (1, _): self = .named(rest)
    case (2, _):
      let snapshot = Int64(rest >> Self.fileBits)
      let file = UInt16(truncatingIfNeeded: rest)
      self = file == 0 ? .snapshot(snapshot) : .file(snapshot: snapshot, file: file)
    default: return nil
    }
  }

  /// The node of a folder or link, by its path within the mount.
  package init(path: String) {
    self = .named(Self.hash(path) & ((1 << Self.kindShift) - 1))
  }

  package var number: UInt64 {
    switch self {
    case .root: 1
    case .byName: 2
    case .byVM: 3
    case .named(let hash): 1 << Self.kindShift | hash
    case .snapshot(let id): 2 << Self.kindShift | UInt64(id) << Self.fileBits
    case .file(let id, let file):
      2 << Self.kindShift | UInt64(id) << Self.fileBits | UInt64(file)
    }
  }

  /// Where in its folder an entry is: a number that only its name makes, so that what comes and goes while
  /// somebody reads the folder moves nothing else. 1 and 2 are `.` and `..`.
  package static func cookie(of name: String) -> UInt64 {
    (hash(name) >> 1) | 1 << 32
  }

  private static func hash(_ text: String) -> UInt64 {
    SHA256Hasher.hash(Array(text.utf8)).prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }
}
