import Glibc
import SystemPackage

/// What is in a directory.
enum FilesOfDirectory {
  /// More files than any VMM's snapshot has.
  private static let maximumCount = 4096

  /// The paths of what is in the directory at `path`, not sorted. An empty list when it is not a directory, or
  /// cannot be read.
  static func paths(in path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var paths: [String] = []
    while paths.count < maximumCount, let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { paths.append(FilePath(path).appending(name).string) }
    }
    return paths
  }
}
