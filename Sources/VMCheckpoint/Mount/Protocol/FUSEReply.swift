/// Writes an answer for the kernel's FUSE driver, behind the 16 bytes of its header.
///
/// Whoever uses one sees to it that there is room: answers but for data and directories have less than 256 bytes.
package struct FUSEReply {
  package static let headerByteCount = 16
  /// An entry with a node, its timeouts and its attributes.
  private static let entryByteCount = 128
  private static let directoryEntryByteCount = 24

  private let buffer: UnsafeMutableRawBufferPointer
  /// Bytes behind the header.
  package private(set) var byteCount = 0

  /// - Parameter buffer: What follows the header.
  package init(_ buffer: UnsafeMutableRawBufferPointer) { self.buffer = buffer }

  package mutating func append<Value: FixedWidthInteger>(_ value: Value) {
    buffer.storeBytes(of: value, toByteOffset: byteCount, as: Value.self)
    byteCount += MemoryLayout<Value>.size
  }

  /// - Precondition: There is room.
  package mutating func append(_ bytes: some Collection<UInt8>) {
    UnsafeMutableRawBufferPointer(rebasing: buffer[byteCount...]).copyBytes(from: bytes)
    byteCount += bytes.count
  }

  package mutating func appendZeros(_ count: Int) {
    UnsafeMutableRawBufferPointer(rebasing: buffer[byteCount..<(byteCount + count)])
      .initializeMemory(as: UInt8.self, repeating: 0)
    byteCount += count
  }

  /// The header of an answer.
  ///
  /// - Parameter error: A number of `errno`; 0: none.
  package static func writeHeader(
    to header: UnsafeMutableRawBufferPointer,
    unique: UInt64,
    error: Int32,
    byteCount: Int
  ) {
    header.storeBytes(of: UInt32(headerByteCount + byteCount), as: UInt32.self)
    header.storeBytes(of: -error, toByteOffset: 4, as: Int32.self)
    header.storeBytes(of: unique, toByteOffset: 8, as: UInt64.self)
  }

  /// What lets the kernel hand out again all requests that were handed out before and not answered
  /// (`FUSE_NOTIFY_RESEND`).
  package static let resendNotice: [UInt8] = {
    var bytes = [UInt8](repeating: 0, count: headerByteCount)
    bytes.withUnsafeMutableBytes {
      writeHeader(to: $0, unique: 0, error: -7, byteCount: 0)
    }
    return bytes
  }()

  /// What lets the kernel forget a part of a file, so that it is read again (`FUSE_NOTIFY_INVAL_INODE`).
  package static func forgetNotice(node: UInt64, offset: UInt64, byteCount: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: headerByteCount + 24)
    bytes.withUnsafeMutableBytes {
      writeHeader(to: $0, unique: 0, error: -2, byteCount: 24)
      $0.storeBytes(of: node, toByteOffset: 16, as: UInt64.self)
      $0.storeBytes(of: offset, toByteOffset: 24, as: UInt64.self)
      $0.storeBytes(of: Int64(byteCount), toByteOffset: 32, as: Int64.self)
    }
    return bytes
  }

  /// The first bytes of what puts pages of a file into the kernel's memory, so that nobody has to ask for them
  /// (`FUSE_NOTIFY_STORE`); the pages follow.
  package static func storeNotice(node: UInt64, offset: UInt64, byteCount: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: headerByteCount + 24)
    bytes.withUnsafeMutableBytes {
      writeHeader(to: $0, unique: 0, error: -4, byteCount: 24 + byteCount)
      $0.storeBytes(of: node, toByteOffset: 16, as: UInt64.self)
      $0.storeBytes(of: offset, toByteOffset: 24, as: UInt64.self)
      $0.storeBytes(of: UInt32(byteCount), toByteOffset: 32, as: UInt32.self)
    }
    return bytes
  }

  /// `struct fuse_init_out`.
  package mutating func appendInitialization(
    minor: UInt32,
    maximumReadahead: UInt32,
    flags: UInt64,
    maximumPageCount: UInt16
  ) {
    append(UInt32(7))
    append(minor)
    append(maximumReadahead)
    append(UInt32(truncatingIfNeeded: flags))
    append(UInt16(64))  // Requests in the background,
    append(UInt16(48))  // and how many of them are congestion.
    append(UInt32(4096))  // The most that is written, which is refused.
    append(UInt32(1))  // Times in nanoseconds.
    append(maximumPageCount)
    append(UInt16(0))
    append(UInt32(truncatingIfNeeded: flags >> 32))
    appendZeros(28)
  }

  /// `struct fuse_attr`.
  private mutating func append(_ attributes: FUSEAttributes, _ owner: FUSEOwner) {
    append(attributes.node)
    append(attributes.byteCount)
    append(attributes.blockCount)
    for _ in 0..<3 { append(attributes.timeSeconds) }
    for _ in 0..<3 { append(UInt32(0)) }
    append(attributes.mode)
    // 1 for folders as well: nothing is to be concluded from it.
    append(UInt32(1))
    append(owner.user)
    append(owner.group)
    append(UInt32(0))
    append(UInt32(4096))
    append(UInt32(0))
  }

  /// `struct fuse_attr_out`.
  package mutating func appendAttributes(_ attributes: FUSEAttributes, _ owner: FUSEOwner) {
    append(attributes.validSeconds)
    append(UInt32(0))
    append(UInt32(0))
    append(attributes, owner)
  }

  /// `struct fuse_entry_out`.
  package mutating func appendEntry(_ attributes: FUSEAttributes, _ owner: FUSEOwner) {
    append(attributes.node)
    append(UInt64(0))
    append(attributes.entryValidSeconds)
    append(attributes.validSeconds)
    append(UInt32(0))
    append(UInt32(0))
    append(attributes, owner)
  }

  /// `struct fuse_open_out`.
  package mutating func appendOpen(handle: UInt64, flags: UInt32) {
    append(handle)
    append(flags)
    append(UInt32(0))
  }

  /// `struct fuse_statfs_out`.
  package mutating func appendStatistics(blockCount: UInt64, fileCount: UInt64) {
    append(blockCount)
    append(UInt64(0))
    append(UInt64(0))
    append(fileCount)
    append(UInt64(0))
    append(UInt32(4096))
    append(UInt32(255))
    append(UInt32(4096))
    appendZeros(28)
  }

  /// `struct fuse_dirent`, or `struct fuse_direntplus` with attributes; none of them for `.` and `..`.
  ///
  /// - Parameters:
  ///   - cookie: Where the next request goes on.
  ///   - limit: Room for all entries.
  /// - Returns: `false` when there is no room.
  package mutating func appendDirectoryEntry(
    _ name: String,
    _ attributes: FUSEAttributes,
    cookie: UInt64,
    withAttributes: Bool,
    isListed: Bool,
    _ owner: FUSEOwner,
    limit: Int
  ) -> Bool {
    let nameByteCount = name.utf8.count
    let unpadded = Self.directoryEntryByteCount + nameByteCount
    let padded = (unpadded + 7) & ~7
    let needed = padded + (withAttributes ? Self.entryByteCount : 0)
    guard byteCount + needed <= min(limit, buffer.count) else { return false }
    if withAttributes {
      if isListed { appendEntry(attributes, owner) } else { appendZeros(Self.entryByteCount) }
    }
    append(attributes.node)
    append(cookie)
    append(UInt32(nameByteCount))
    append((attributes.mode & 0o170000) >> 12)
    append(name.utf8)
    appendZeros(padded - unpadded)
    return true
  }
}

/// Whose the files are.
package struct FUSEOwner: Hashable, Sendable {
  package var user: UInt32
  package var group: UInt32

  package init(user: UInt32, group: UInt32) { (self.user, self.group) = (user, group) }
}

/// What the kernel is told of a file or folder.
package struct FUSEAttributes: Hashable, Sendable {
  package var node: UInt64
  /// With the kind of file.
  package var mode: UInt32
  package var byteCount: UInt64 = 0
  /// Of 512 bytes each, without holes.
  package var blockCount: UInt64 = 0
  /// Since 1970.
  package var timeSeconds: UInt64 = 0
  /// For how long the kernel may go by these without asking.
  package var validSeconds: UInt64
  /// For how long the kernel may go by the name without asking.
  package var entryValidSeconds: UInt64

  package init(node: UInt64, mode: UInt32, validSeconds: UInt64, entryValidSeconds: UInt64) {
    self.node = node
    self.mode = mode
    self.validSeconds = validSeconds
    self.entryValidSeconds = entryValidSeconds
  }
}
