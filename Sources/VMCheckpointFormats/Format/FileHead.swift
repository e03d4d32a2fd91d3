import Glibc
import SystemPackage
import VMCheckpoint

/// The first bytes of a file or stream, by which its format is recognised.
package struct FileHead: Sendable {
  /// The volume descriptor of ISO 9660, which is furthest from the beginning, is at 32 KiB.
  static let byteCount = 36 << 10

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

  /// The byte at `offset`; `nil` behind the end.
  func byte(at offset: Int) -> UInt8? { offset < bytes.count ? bytes[offset] : nil }

  /// The text in a field of `count` bytes, up to its first NUL.
  func text(at offset: Int, count: Int) -> String {
    guard offset < bytes.count else { return "" }
    return String(decoding: bytes[offset...].prefix(count).prefix { $0 != 0 }, as: UTF8.self)
  }
}
