import Glibc

/// The paths at which programs of this network namespace listen on Unix sockets.
struct ListeningSockets {
  /// `__SO_ACCEPTCON` in the column of flags.
  private static let listening = "00010000"
  /// Some hundred thousand sockets.
  private static let maximumByteCount = 64 << 20

  private let paths: Set<String>

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
    var paths = Set<String>()
    for line in table.split(separator: "\n") {
      // Num RefCount Protocol Flags Type St Inode Path, which may have spaces.
      let fields = line.split(separator: " ", maxSplits: 7, omittingEmptySubsequences: true)
      guard fields.count == 8, fields[3] == Self.listening, fields[7].hasPrefix("/") else {
        continue
      }
      paths.insert(String(fields[7]))
    }
    self.paths = paths
  }

  func contains(_ path: String) -> Bool { paths.contains(path) }
}
