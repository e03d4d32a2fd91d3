/// A request of the kernel's FUSE driver, as it comes out of `/dev/fuse`.
///
/// A header of 40 bytes is followed by what the operation needs; numbers have the machine's byte order. (Linux,
/// `include/uapi/linux/fuse.h`; Documentation/filesystems/fuse.) Nothing is believed of it: whatever bytes
/// come, reading them ends in a request or in `nil`.
package struct FUSERequest: Hashable, Sendable {
  /// What the kernel wants.
  package enum Operation: Hashable, Sendable {
    case initialize(major: UInt32, minor: UInt32, maximumReadahead: UInt32, flags: UInt64)
    /// The name has 1 to 255 bytes, and no slash.
    case lookUp(name: String)
    case attributes
    case readLink
    /// Whether it is opened for writing, as QEMU opens RAM.
    case open(forWriting: Bool)
    /// The handle is that of the open file by which the bytes are wanted.
    case read(handle: UInt64, offset: UInt64, byteCount: Int)
    case release(handle: UInt64)
    case openDirectory
    case releaseDirectory
    case readDirectory(offset: UInt64, byteCount: Int, withAttributes: Bool)
    case seek(offset: UInt64, whence: UInt32)
    case statistics
    /// The kernel expects no answer.
    case unanswered
    /// Something that only succeeds where there is nothing to do.
    case nothing
    /// Something would be written.
    case change
    /// What a program has written to a shared mapping is to be written back.
    case writeBack(offset: UInt64, byteCount: Int)
    /// Anything else.
    case unknown
  }

  package static let headerByteCount = 40
  /// Names, and lists of nodes to forget. Nothing longer is needed: all that would be written is refused.
  package static let maximumByteCount = 64 << 10
  /// Set in ``unique`` when the request was handed to a server before that is gone.
  package static let resentMark: UInt64 = 1 << 63

  /// Names the request in its answer.
  package var unique: UInt64
  package var node: UInt64
  package var operation: Operation

  /// The request without ``resentMark``: the same for both servers that it was handed to.
  package var lasting: UInt64 { unique & ~Self.resentMark }

  /// - Returns: `nil` for what is not a request.
  package init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.headerByteCount, bytes.count <= Self.maximumByteCount,
      bytes.loadUnaligned(as: UInt32.self) == UInt32(bytes.count)
    else { return nil }
    let code = bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    unique = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    node = bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
    let body = UnsafeRawBufferPointer(rebasing: bytes[Self.headerByteCount...])
    guard let operation = Self.operation(code, body) else { return nil }
    self.operation = operation
  }

  /// What names the request of which `bytes` are the beginning, so that a malformed one can be refused.
  package static func unique(of bytes: UnsafeRawBufferPointer) -> UInt64? {
    bytes.count >= 16 ? bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self) : nil
  }

  private static func operation(_ code: UInt32, _ body: UnsafeRawBufferPointer) -> Operation? {
    func word(_ offset: Int) -> UInt32 {
      body.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }
    func long(_ offset: Int) -> UInt64 {
      body.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }
    switch code {
    case 1: return name(body).map { .lookUp(name: $0) }
    case 2, 36, 42: return .unanswered  // FORGET, INTERRUPT, BATCH_FORGET
    case 3: return .attributes
    case 5: return .readLink
    case 14: return .open(forWriting: body.count >= 4 && word(0) & 3 != 0)  // O_ACCMODE
    case 15, 28, 44:  // READ, READDIR, READDIRPLUS
      guard body.count >= 24 else { return nil }
      let (offset, byteCount) = (long(8), Int(word(16)))
      return code == 15
        ? .read(handle: long(0), offset: offset, byteCount: byteCount)
        : .readDirectory(offset: offset, byteCount: byteCount, withAttributes: code == 44)
    case 17: return .statistics
    case 18: return body.count >= 8 ? .release(handle: long(0)) : nil
    case 26:
      guard body.count >= 16 else { return nil }
      let extendsFlags = word(12) & FUSEFlag.extended != 0 && body.count >= 20
      return .initialize(
        major: word(0),
        minor: word(4),
        maximumReadahead: word(8),
        flags: UInt64(word(12)) | (extendsFlags ? UInt64(word(16)) << 32 : 0)
      )
    case 27: return .openDirectory
    case 29: return .releaseDirectory
    case 46: return body.count >= 20 ? .seek(offset: long(8), whence: word(16)) : nil
    case 20, 30, 38, 50: return .nothing  // FSYNC, FSYNCDIR, DESTROY, SYNCFS
    case 16:  // WRITE
      guard body.count >= 40 else { return nil }
      let isFromMemory = word(20) & 1 != 0
      return isFromMemory ? .writeBack(offset: long(8), byteCount: Int(word(16))) : .change
    // SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, SETXATTR, REMOVEXATTR, CREATE, FALLOCATE,
    // RENAME2, COPY_FILE_RANGE, TMPFILE
    case 4, 6, 8, 9, 10, 11, 12, 13, 21, 24, 35, 43, 45, 47, 51: return .change
    default: return .unknown
    }
  }

  /// The name that ends with a zero. One that is not ASCII is no name here, but no error either.
  private static func name(_ body: UnsafeRawBufferPointer) -> String? {
    guard let end = body.firstIndex(of: 0), (1...255).contains(end) else { return nil }
    let bytes = body[..<end]
    guard !bytes.contains(UInt8(ascii: "/")) else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// Bits that the kernel and a server exchange when they begin.
package enum FUSEFlag {
  package static let asynchronousRead: UInt64 = 1 << 0
  package static let readDirectoryPlus: UInt64 = 1 << 13
  package static let readDirectoryPlusAuto: UInt64 = 1 << 14
  package static let parallelDirectoryOperations: UInt64 = 1 << 18
  package static let maximumPages: UInt64 = 1 << 22
  package static let explicitInvalidation: UInt64 = 1 << 25
  /// There is a second word of flags.
  package static let extended: UInt32 = 1 << 30
  /// The kernel can hand out again what it has handed to a server that is gone (Linux 6.9).
  package static let resend: UInt64 = 1 << 39

  /// Of an open file: what the kernel has of it in memory stays.
  package static let openKeepsCache: UInt32 = 1 << 1
  /// Of an open file: each read asks the server.
  package static let openIsDirect: UInt32 = 1 << 0
  /// Of an open file: closing it asks nothing.
  package static let openWithoutFlush: UInt32 = 1 << 5
}
