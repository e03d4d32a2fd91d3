import Glibc
import VMCheckpoint

/// The paths at which programs of this network namespace listen on Unix sockets.
struct ListeningSockets {
  /// `__SO_ACCEPTCON` in the column of flags.
  private static let listening = "00010000"
  /// Some hundred thousand sockets.
  private static let maximumByteCount = 64 << 20
  private static let maximumNameCount = 1 << 20

  /// The kernel's numbers of the sockets at a path, as their programs wrote it.
  private let sockets: [String: Set<UInt64>]

  /// Those of `/proc/net/unix`; none where that cannot be read.
  static var now: ListeningSockets {
    guard let file = fopen("/proc/net/unix", "re") else { return ListeningSockets("") }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < maximumByteCount {
      let count = fread(&block, 1, block.count, file)
      guard count > 0 else { break }
      bytes += block[..<count]
    }
    return ListeningSockets(String(decoding: bytes, as: UTF8.self))
  }

  /// - Parameter table: As `/proc/net/unix` has it.
  init(_ table: String) {
    var sockets: [String: Set<UInt64>] = [:]
    for line in table.split(separator: "\n") {
      // Num RefCount Protocol Flags Type St Inode Path, which may have spaces.
      let fields = line.split(separator: " ", maxSplits: 7, omittingEmptySubsequences: true)
      guard fields.count == 8, fields[3] == Self.listening, let inode = UInt64(fields[6]) else {
        continue
      }
      sockets[String(fields[7]), default: []].insert(inode)
    }
    self.sockets = sockets
  }

  /// Whether a program listens at `path`, which may be relative to `directory`.
  ///
  /// There must be a socket in this process's file systems: a container may share the network with a host, and with
  /// it the table of sockets, whose paths are the host's. What the table has of a relative path says nothing about its
  /// folder, which was the working directory of the program that listens. Where the socket is not there any more, as that
  /// of a daemon, which goes to the root, or where nobody finds the program, a socket with that name counts.
  func contains(_ path: String, in directory: String) -> Bool {
    guard let inodes = sockets[path] else { return false }
    let isAbsolute = path.utf8.first == UInt8(ascii: "/")
    guard let socket = Self.socket(isAbsolute ? path : "\(directory)/\(path)") else { return false }
    guard !isAbsolute else { return true }
    let directories = Self.workingDirectories(ofHoldersOf: inodes)
    return directories.count < inodes.count
      || directories.contains { Self.socket("\($0)/\(path)") ?? socket == socket }
  }

  /// The file system and number of the socket at a path.
  private static func socket(_ path: String) -> [UInt64]? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
    return [UInt64(status.st_dev), UInt64(status.st_ino)]
  }

  /// A folder for each of the sockets whose program can be looked at.
  private static func workingDirectories(ofHoldersOf inodes: Set<UInt64>) -> [String] {
    var rest = Set(inodes.map { "socket:[\($0)]" })
    var directories: [String] = []
    for process in FilesOfDirectory.names(in: "/proc", maximumCount: maximumNameCount)
    where Int32(process) != nil {
      let folder = "/proc/\(process)/fd"
      for file in FilesOfDirectory.names(in: folder, maximumCount: maximumNameCount) {
        guard let target = link("\(folder)/\(file)"), rest.remove(target) != nil else { continue }
        directories.append("/proc/\(process)/cwd")
      }
      if rest.isEmpty { break }
    }
    return directories
  }

  private static func link(_ path: String) -> String? {
    // A socket's is shorter.
    var target = [UInt8](repeating: 0, count: 64)
    let count = readlink(path, &target, target.count)
    return count > 0 ? String(decoding: target[..<count], as: UTF8.self) : nil
  }
}
