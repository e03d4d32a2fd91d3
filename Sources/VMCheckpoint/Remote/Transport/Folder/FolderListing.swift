import Glibc
import SystemPackage

/// The keys of a folder's objects in ascending order, with memory that does not grow with their number.
///
/// Of each folder on the way, the names are read in windows of the smallest that come after those before. A folder
/// sorts by its name and `/`, as the keys below it do: `a-b` comes before `a/x`, and `a/x` before `a0`.
struct FolderListing {
  private struct Level {
    var parts: [Substring]
    /// The names of the window, last first; those of folders end with `/`.
    var window: [[UInt8]] = []
    /// The last name of the window: the next has those after it.
    var windowEnd: [UInt8] = []
    var hasMore = true
  }

  private let tree: FolderTree
  private let after: [UInt8]
  private let cancellation: CancellationFlag
  private var levels: [Level]

  /// - Parameters:
  ///   - start: The folder to begin in.
  ///   - after: Only keys after this one.
  init(
    tree: FolderTree,
    start: [Substring],
    after: RemoteKey?,
    cancellation: CancellationFlag
  ) {
    self.tree = tree
    self.after = after.map { Array($0.text.utf8) } ?? []
    self.cancellation = cancellation
    levels = [Level(parts: start)]
  }

  /// The next key; `nil` at the end.
  mutating func next() throws(VMCheckpointError) -> RemoteKey? {
    while var level = levels.popLast() {
      if level.window.isEmpty, level.hasMore { try fill(&level) }
      guard let name = level.window.popLast() else { continue }
      let parts = level.parts
      levels.append(level)
      if name.last == UInt8(ascii: "/") {
        let child = String(decoding: name.dropLast(), as: UTF8.self)
        levels.append(Level(parts: parts + [Substring(child)]))
      } else {
        let path = (parts + [Substring(String(decoding: name, as: UTF8.self))])
          .joined(separator: "/")
        // Longer keys than there can be are not objects.
        if let key = RemoteKey(path) { return key }
      }
    }
    return nil
  }

  /// Reads the next window of a folder's names.
  private mutating func fill(_ level: inout Level) throws(VMCheckpointError) {
    // Folders of folders without end, which nobody but a stranger makes, get less.
    let capacity = levels.count < 4 ? 8192 : 512
    var names: [[UInt8]] = []
    level.hasMore = false
    let parts = level.parts
    let floor = level.windowEnd
    let pathBytes = Array((parts.joined(separator: "/") + (parts.isEmpty ? "" : "/")).utf8)
    try forEachName(in: parts) { name in
      guard floor.lexicographicallyPrecedes(name), mayFollow(pathBytes + name) else { return }
      names.append(name)
      guard names.count >= 2 * capacity else { return }
      names.sort { $0.lexicographicallyPrecedes($1) }
      names.removeLast(names.count - capacity)
      level.hasMore = true
    }
    names.sort { $0.lexicographicallyPrecedes($1) }
    if names.count > capacity {
      names.removeLast(names.count - capacity)
      level.hasMore = true
    }
    level.windowEnd = names.last ?? floor
    level.window = names.reversed()
  }

  /// Whether a key, or one below a folder, comes after the start.
  private func mayFollow(_ path: [UInt8]) -> Bool {
    after.lexicographicallyPrecedes(path)
      || (path.last == UInt8(ascii: "/") && after.starts(with: path))
  }

  /// Calls `body` with the names of a folder's files and folders that can be parts of keys.
  private func forEachName(
    in parts: [Substring],
    _ body: ([UInt8]) -> Void
  ) throws(VMCheckpointError) {
    func failure(_ error: Errno) -> VMCheckpointError {
      let path = ([Substring(tree.path)] + parts).joined(separator: "/")
      return FolderTransport.failure("cannot list the folder \(quotedName(path))", error)
    }
    let folder: Int32
    do throws(Errno) {
      folder = try tree.openFolder(parts[...])
    } catch {
      // Also one that was removed meanwhile.
      if FolderTree.meansAbsent(error) { return }
      throw failure(error)
    }
    guard let directory = fdopendir(folder) else {
      let error = Errno(rawValue: errno)
      close(folder)
      throw failure(error)
    }
    defer { closedir(directory) }
    while true {
      errno = 0
      guard let entry = readdir(directory) else {
        let error = Errno(rawValue: errno)
        if error.rawValue == 0 || FolderTree.meansAbsent(error) { return }
        throw failure(error)
      }
      try cancellation.check()
      var name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      // What cannot be part of a key, such as the remote's own folder, is not an object.
      guard RemoteKey.isPart(name) else { continue }
      switch Self.kind(entry, in: folder) {
      case S_IFREG: body(name)
      case S_IFDIR:
        name.append(UInt8(ascii: "/"))
        body(name)
      default: continue
      }
    }
  }

  /// The type of an entry as `stat` has it, links not followed; 0 when it is gone.
  private static func kind(_ entry: UnsafeMutablePointer<dirent>, in folder: Int32) -> mode_t {
    switch Int(entry.pointee.d_type) {
    case Int(DT_REG): return S_IFREG
    case Int(DT_DIR): return S_IFDIR
    case Int(DT_UNKNOWN):
      var status = stat()
      let result = withUnsafePointer(to: &entry.pointee.d_name) { name in
        name.withMemoryRebound(to: CChar.self, capacity: 256) {
          fstatat(folder, $0, &status, AT_SYMLINK_NOFOLLOW)
        }
      }
      return result == 0 ? status.st_mode & S_IFMT : 0
    default: return 0
    }
  }
}
