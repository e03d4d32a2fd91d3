import Glibc
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

  /// The first bytes of a regular file; `nil` for anything else, and for a file that cannot be read.
  init?(path: String) {
    // Opening a pipe and closing it would end its writer.
    var found = stat()
    guard stat(path, &found) == 0, found.st_mode & S_IFMT == S_IFREG else { return nil }
    // No symbolic link of a stranger's is followed here that would not be followed when RAM is read.
    guard let opened = try? ResolvedPath.open(source: path, flags: O_NONBLOCK) else { return nil }
    defer { close(opened) }
    var status = stat()
    guard fstat(opened, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    let descriptor = opened
    var failed = false
    bytes = [UInt8](unsafeUninitializedCapacity: Self.byteCount) { buffer, count in
      count = 0
      while count < Self.byteCount {
        let got = pread(
          descriptor,
          buffer.baseAddress! + count,
          Self.byteCount - count,
          off_t(count)
        )
        if got > 0 { count += got }
        if got < 0, errno == EINTR { continue }
        failed = got < 0
        if got <= 0 { break }
      }
    }
    if failed { return nil }
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
