import Glibc
import SystemPackage

/// The one true path of a file that need not exist yet.
enum ResolvedPath {
  /// As many symbolic links as Linux follows.
  private static let maximumLinkCount = 40

  /// Whether two paths lead to the same file, existing or not.
  static func areSame(_ first: String, _ second: String) throws(VMCheckpointError) -> Bool {
    if try of(first) == of(second) { return true }
    var (one, other) = (stat(), stat())
    return stat(first, &one) == 0 && stat(second, &other) == 0 && one.st_dev == other.st_dev
      && one.st_ino == other.st_ino
  }

  /// The absolute path without links. Where the directory is missing there is nothing to resolve:
  /// then `path` itself, never without a slash.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `notFound` for links that go round in circles.
  static func of(_ path: String) throws(VMCheckpointError) -> String {
    var path = path
    for _ in 0..<maximumLinkCount {
      if let resolved = realPath(path) { return resolved }
      let parts = FilePath(path)
      let directory = parts.removingLastComponent()
      guard let name = parts.lastComponent, name.kind == .regular,
        let resolved = realPath(directory.isEmpty ? "." : directory.string)
      else { return parts.isAbsolute ? path : "./\(path)" }
      let candidate = FilePath(resolved).appending(name).string
      // A link that leads to nothing: what is created is what it names.
      guard let target = linkTarget(candidate) else { return candidate }
      path =
        FilePath(target).isAbsolute ? target : FilePath(resolved).pushing(FilePath(target)).string
    }
    throw VMCheckpointError(.notFound, "\(quotedName(path)) is a loop of symbolic links")
  }

  private static func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  private static func linkTarget(_ path: String) -> String? {
    let target = [UInt8](unsafeUninitializedCapacity: Int(PATH_MAX)) { buffer, count in
      count = buffer.withMemoryRebound(to: CChar.self) {
        max(0, readlink(path, $0.baseAddress!, $0.count))
      }
    }
    return target.isEmpty ? nil : String(decoding: target, as: UTF8.self)
  }
}
