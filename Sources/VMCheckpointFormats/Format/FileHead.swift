import Glibc
import SystemPackage
import VMCheckpoint

/// The first bytes of a file or stream, by which its format is recognised.
package struct FileHead: Sendable {
  /// The superblock of Btrfs, which is furthest from the beginning, is at 64 KiB.
  static let byteCount = 68 << 10

  private let bytes: [UInt8]

  /// The first of `bytes`.
  package init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = Array(bytes.prefix(Self.byteCount))
  }

  /// The first bytes of a regular file; `nil` for anything else.
  ///
  /// - Throws: ``VMCheckpointError``, as when the file is read as flat RAM: without its first bytes it is not
  ///   known what it is.
  init?(path: String) throws(VMCheckpointError) {
    let name = "RAM file \(quotedName(path))"
    // Opening a pipe and closing it would end its writer.
    var found = stat()
    guard stat(path, &found) == 0 else {
      // The save says that there is no such file, after what is wrong with the rest of the command line.
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw VMCheckpointError.cannotOpen(name, Errno(rawValue: errno))
    }
    guard found.st_mode & S_IFMT == S_IFREG else { return nil }
    // No symbolic link of a stranger's is followed here that would not be followed when RAM is read.
    guard let opened = try ResolvedPath.open(source: path, flags: O_NONBLOCK) else {
      throw VMCheckpointError.cannotOpen(name, Errno(rawValue: errno))
    }
    let descriptor = FileDescriptor(rawValue: opened)
    defer { try? descriptor.close() }
    var status = stat()
    guard fstat(opened, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    // Array's own closures only rethrow untyped errors.
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(Errno) in try FileIO.read(into: buffer, from: descriptor, at: 0) }
    }
    switch result {
    case .success(let count): self.bytes = Array(bytes[..<count])
    case .failure(let error):
      throw VMCheckpointError(.inputOutput, "cannot read \(name) at offset 0x0: \(error)")
    }
  }

  /// Whether `magic` is at `offset`.
  func has(_ magic: [UInt8], at offset: Int = 0) -> Bool {
    offset + magic.count <= bytes.count
      && bytes[offset..<(offset + magic.count)].elementsEqual(magic)
  }

  /// Whether the text `magic` is at `offset`.
  func has(_ magic: String, at offset: Int = 0) -> Bool { has(Array(magic.utf8), at: offset) }

  /// Whether the first block is a header of tar before POSIX, which has no magic number but a checksum: the
  /// sum of the block's bytes, its own counted as spaces, in octal.
  var isHeaderOfOldTar: Bool {
    guard bytes.count >= 512, bytes[0] != 0 else { return false }
    let field = bytes[148..<156].drop { $0 == 0x20 }
    let digits = field.prefix { (0x30...0x37).contains($0) }
    guard digits.count >= 4, field.dropFirst(digits.count).allSatisfy({ $0 == 0 || $0 == 0x20 })
    else { return false }
    let stated = digits.reduce(0) { $0 << 3 | Int($1 & 7) }
    let sum = bytes[..<512].reduce(0) { $0 + Int($1) }
    return stated == sum - bytes[148..<156].reduce(0) { $0 + Int($1) } + 8 * 0x20
  }

  /// Whether the first sector ends in a partition table: its signature, and four entries of which each
  /// is empty or has a kind, a first sector and a size. RAM of a machine with a BIOS has interrupt vectors
  /// there.
  var hasPartitionTable: Bool {
    guard has([0x55, 0xaa], at: 510) else { return false }
    var partitionCount = 0
    for entry in stride(from: 446, to: 510, by: 16) {
      let (status, kind) = (bytes[entry], bytes[entry + 4])
      let (start, count) = (littleEndian(4, at: entry + 8), littleEndian(4, at: entry + 12))
      guard status & 0x7f == 0 else { return false }
      if kind != 0, start != 0, count != 0 { partitionCount += 1 }
      if kind == 0, status != 0 || start != 0 || count != 0 { return false }
    }
    return partitionCount > 0
  }

  /// Whether a superblock of ext2, ext3 or ext4 is at 1 KiB: its magic number, which has two bytes only,
  /// and fields that have few values.
  var hasExtSuperblock: Bool {
    let start = 1024
    guard has([0x53, 0xef], at: start + 0x38), bytes.count >= start + 1024 else { return false }
    let (inodeCount, blockCount) = (littleEndian(4, at: start), littleEndian(4, at: start + 4))
    return inodeCount > 0 && blockCount > 0
      && littleEndian(4, at: start + 0x18) <= 6  // Blocks of 1 to 64 KiB.
      && littleEndian(4, at: start + 0x14) <= 1  // The first data block.
      && littleEndian(2, at: start + 0x3a) < 8  // The state's flags.
      && (1...3).contains(littleEndian(2, at: start + 0x3c))  // What to do on errors.
      && littleEndian(4, at: start + 0x4c) <= 1  // The revision.
  }

  /// Whether this is a .lzma file, which has no magic number: the usual properties, a dictionary size that
  /// `xz` writes, and the size of the contents, or that it is not known.
  var isLZMAAlone: Bool {
    guard has([0x5d]), bytes.count > 13 else { return false }
    let dictionaryByteCount = littleEndian(4, at: 1)
    let isPower = dictionaryByteCount.nonzeroBitCount == 1
    let isSumOfTwo =
      dictionaryByteCount.nonzeroBitCount == 2
      && dictionaryByteCount & (dictionaryByteCount << 1) != 0
    let contents = littleEndian(8, at: 5)
    // The range coder's first byte is zero.
    return dictionaryByteCount >= 4096 && (isPower || isSumOfTwo) && bytes[13] == 0
      && (contents == .max || contents < 1 << 48)
  }

  /// A number of `count` bytes, which are all there.
  private func littleEndian(_ count: Int, at offset: Int) -> UInt64 {
    bytes[offset..<(offset + count)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// How many zeros it begins with.
  var zeroCount: Int { bytes.prefix { $0 == 0 }.count }

  /// The byte at `offset`; `nil` behind the end.
  func byte(at offset: Int) -> UInt8? { offset < bytes.count ? bytes[offset] : nil }

  /// The text in a field of `count` bytes, up to its first NUL.
  func text(at offset: Int, count: Int) -> String {
    guard offset < bytes.count else { return "" }
    return String(decoding: bytes[offset...].prefix(count).prefix { $0 != 0 }, as: UTF8.self)
  }
}
