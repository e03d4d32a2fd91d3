import Glibc
import SystemPackage

/// The one true path of a file that need not exist yet.
///
/// Symbolic links are followed here and not by the kernel. The kernel has its own rule for links of
/// others (`fs.protected_symlinks`) only where it is switched on. It does not apply that rule to paths
/// that are resolved before they are opened. So ``LinkRule`` is asked about each.
package enum ResolvedPath {
  /// As many symbolic links as Linux follows.
  private static let maximumLinkCount = 40

  /// Whether two paths lead to the same file, existing or not.
  package static func areSame(_ first: String, _ second: String) throws(VMCheckpointError) -> Bool {
    if try of(first) == of(second) { return true }
    var (one, other) = (stat(), stat())
    return stat(first, &one) == 0 && stat(second, &other) == 0 && one.st_dev == other.st_dev
      && one.st_ino == other.st_ino
  }

  /// Whether `path` leads to the regular file that a descriptor is open on.
  package static func leads(_ path: String, toFileOf fileDescriptor: Int32) -> Bool {
    var (one, other) = (stat(), stat())
    return fstat(fileDescriptor, &one) == 0 && one.st_mode & S_IFMT == S_IFREG
      && stat(path, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino
  }

  /// The absolute path without links. Where the directory is missing there is nothing to resolve:
  /// then `path` itself, never without a slash.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound` for links that go round in circles,
  ///   `permissionDenied` for one of somebody else's that ``LinkRule`` refuses.
  package static func of(_ path: String) throws(VMCheckpointError) -> String {
    try resolve(path, keepingKernelLinks: false).path
  }

  /// Opens a file that is there, for reading: it and not what a link leads to by the time it is
  /// opened.
  ///
  /// - Returns: A descriptor; or `nil`, and `errno` is set.
  /// - Throws: ``VMCheckpointError`` as ``of(_:)``.
  package static func open(
    source path: String,
    flags: Int32 = 0
  ) throws(VMCheckpointError) -> Int32? {
    let found = try resolve(path, keepingKernelLinks: true)
    let opened = Glibc.open(
      found.path,
      O_RDONLY | O_CLOEXEC | flags | (found.isKernelLink ? 0 : O_NOFOLLOW)
    )
    return opened < 0 ? nil : opened
  }

  /// Checks all links of a path that something else is about to open.
  ///
  /// - Throws: ``VMCheckpointError`` as ``of(_:)``.
  package static func checkLinks(of path: String) throws(VMCheckpointError) {
    _ = try resolve(path, keepingKernelLinks: true)
  }

  private typealias Found = (path: String, isKernelLink: Bool)

  /// - Parameter keepingKernelLinks: Leaves links of `/proc`, such as `/proc/self/fd/0`, in the path:
  ///   what they lead to may have no path at all.
  private static func resolve(
    _ path: String,
    keepingKernelLinks: Bool
  ) throws(VMCheckpointError) -> Found {
    let given = FilePath(path)
    let unresolved = (given.isAbsolute ? path : "./\(path)", false)
    guard var resolved = given.isAbsolute ? FilePath("/") : workingDirectory else {
      return unresolved
    }
    // The next component is the last element.
    var rest = Array(given.components.reversed())
    var linkCount = 0
    var keepsParents = false
    while let name = rest.popLast() {
      switch name.kind {
      case .currentDirectory: continue
      case .parentDirectory:
        // Where a kernel's link leads to is elsewhere.
        if keepsParents { resolved.append(name) } else { resolved.removeLastComponent() }
        continue
      case .regular: break
      }
      let candidate = resolved.appending(name)
      let isLast = !rest.contains { $0.kind != .currentDirectory }
      var status = stat()
      guard lstat(candidate.string, &status) == 0 else {
        guard errno == ENOENT, isLast else { return unresolved }
        return (candidate.string, false)
      }
      guard status.st_mode & S_IFMT == S_IFLNK else {
        resolved = candidate
        continue
      }
      let isKernels = LinkRule.isKernels(directory: resolved.string)
      if isKernels, keepingKernelLinks {
        if isLast { return (candidate.string, true) }
        resolved = candidate
        keepsParents = true
        continue
      }
      if !isKernels {
        try LinkRule(isLast: isLast).check(candidate.string, status, in: resolved.string)
      }
      linkCount += 1
      guard linkCount <= maximumLinkCount else {
        throw VMCheckpointError(.notFound, "\(quotedName(path)) is a loop of symbolic links")
      }
      guard let target = linkTarget(candidate.string) else { return unresolved }
      let targetPath = FilePath(target)
      if targetPath.isAbsolute {
        resolved = "/"
        keepsParents = false
      }
      rest += targetPath.components.reversed()
    }
    return (resolved.string, false)
  }

  private static var workingDirectory: FilePath? {
    guard let path = getcwd(nil, 0) else { return nil }
    defer { free(path) }
    let directory = FilePath(String(cString: path))
    // "(unreachable)/…" is what Linux says of a directory outside of the root.
    return directory.isAbsolute ? directory : nil
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
