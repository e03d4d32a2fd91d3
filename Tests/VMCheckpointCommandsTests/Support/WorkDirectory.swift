import FoundationEssentials
import Glibc

/// A directory of a test's own, removed with it.
final class WorkDirectory: Sendable {
  let path: String

  init() throws {
    let parent = FileManager.default.temporaryDirectory.path
    let path = "\(parent)/vmckpt-commands-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    self.path = path
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }

  /// The path of the file `name` in this directory.
  func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file and returns its path.
  func write(_ bytes: [UInt8], to name: String) throws -> String {
    try Data(bytes).write(to: URL(filePath: file(name)))
    return file(name)
  }

  /// Writes a RAM file whose page at index *n* begins with `pages[n]`, zero otherwise.
  func writeRAM(_ pages: [UInt8], to name: String) throws -> String {
    var bytes = [UInt8](repeating: 0, count: pages.count * 4096)
    for (index, value) in pages.enumerated() { bytes[index * 4096] = value }
    return try write(bytes, to: name)
  }

  /// The bytes of the file `name`.
  func read(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(filePath: file(name))))
  }
}
