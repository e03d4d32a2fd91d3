import Glibc
import SystemPackage

/// What is in a directory.
package enum FilesOfDirectory {
  /// The paths of what is in the directory at `path`, not sorted, and at most `maximumCount` of them. An empty
  /// list when it is not a directory, or cannot be read.
  static func paths(in path: String, maximumCount: Int) -> [String] {
    names(in: path, maximumCount: maximumCount).map { FilePath(path).appending($0).string }
  }

  /// The names alone.
  package static func names(in path: String, maximumCount: Int) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while names.count < maximumCount, let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}
