import Glibc

/// A directory of a test's own. Removed with everything in it when the object goes away, unless
/// VMCKPT_KEEP_SCRATCH is set.
package final class TemporaryDirectory: Sendable {
  /// Absolute, with symbolic links resolved.
  package let path: String

  /// - Parameter parent: Where to make it; `nil` for TMPDIR or /tmp.
  package init(in parent: String? = nil) throws {
    let parent = parent ?? environmentValue("TMPDIR") ?? "/tmp"
    var template = Array("\(parent)/vmckpt-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template), let resolved = realpath(made, nil) else {
      throw TestSetupError(
        "cannot make a directory in \(parent): \(String(cString: strerror(errno)))"
      )
    }
    defer { free(resolved) }
    path = String(cString: resolved)
  }

  deinit {
    guard environmentValue("VMCKPT_KEEP_SCRATCH") == nil else { return }
    removeTree(path)
  }

  /// The path of a file in the directory.
  package func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Makes a directory in it and returns its path.
  package func subdirectory(_ name: String) throws -> String {
    guard mkdir(file(name), 0o700) == 0 else { throw TestSetupError("cannot make \(name)") }
    return file(name)
  }

  /// The names in the directory, hidden ones too, in order.
  package var entries: [String] { directoryEntries(path) }
}

/// A test cannot run because of what surrounds it; says what to do.
package struct TestSetupError: Error, CustomStringConvertible {
  package var description: String

  package init(_ description: String) {
    self.description = description
  }
}

/// The value of an environment variable, if it is set and not empty.
package func environmentValue(_ name: String) -> String? {
  guard let value = getenv(name), value.pointee != 0 else { return nil }
  return String(cString: value)
}

/// The names in a directory in order; none when it cannot be read.
package func directoryEntries(_ path: String) -> [String] {
  guard let directory = opendir(path) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names.sorted()
}

private func removeTree(_ path: String) {
  var status = stat()
  guard lstat(path, &status) == 0 else { return }
  guard status.st_mode & S_IFMT == S_IFDIR else {
    unlink(path)
    return
  }
  chmod(path, 0o700)
  for name in directoryEntries(path) { removeTree("\(path)/\(name)") }
  rmdir(path)
}
