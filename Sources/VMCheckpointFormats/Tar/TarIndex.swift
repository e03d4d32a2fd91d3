import VMCheckpoint

/// What is in a tar archive and where, read without the members' data.
///
/// Knows ustar archives, GNU's and POSIX's. What it does not know it refuses by name: an archive that
/// two programs read differently must not be restored.
struct TarIndex {
  /// A file or a directory.
  struct Member {
    /// Relative, without `.`, `..` and empty components, and without a slash at its end.
    var path: String
    var isDirectory: Bool
    var byteCount: UInt64
    /// Where the member's data begins in the archive.
    var dataOffset: UInt64

    /// Where the next header begins: data is filled up to a whole block.
    var endOffset: UInt64 {
      let block = UInt64(TarHeader.blockByteCount)
      return dataOffset + (byteCount + block - 1) / block * block
    }
  }

  /// In the archive's order.
  private(set) var members: [Member] = []

  /// Everything but the members' data and its padding: headers, and the blocks of zeros at the end.
  /// With the data, all of the archive.
  private(set) var skeleton: [UInt8] = []

  /// The size of the whole archive.
  private(set) var byteCount: UInt64 = 0

  /// Some tens in an archive of a VM.
  static let maximumMemberCount = 4096
  /// Linux's own limit of a path.
  private static let maximumNameByteCount = 4096
  /// A few records of some tens of bytes.
  private static let maximumExtendedByteCount = 64 << 10
  /// Writers fill an archive up to a record, of 10 KiB by default.
  private static let maximumTrailerByteCount = 1 << 20

  /// Reads all headers of an archive.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the archive's name.
  /// - Complexity: O(*n*) in the number of members, whatever their size.
  init(reading source: inout some TarSource) throws(VMCheckpointError) {
    var paths: Set<String> = []
    while true {
      let block = try source.read(byteCount: TarHeader.blockByteCount)
      if block.allSatisfy({ $0 == 0 }) {
        try readTrailer(after: block, &source)
        return
      }
      let member = try readMember(block, &source)
      guard members.count < Self.maximumMemberCount else {
        throw .invalidData("has more than \(Self.maximumMemberCount) members")
      }
      guard paths.insert(member.path).inserted else {
        throw .invalidData("has two members \(quotedName(member.path))")
      }
      do throws(VMCheckpointError) {
        try source.skip(byteCount: member.endOffset - member.dataOffset)
      } catch {
        throw VMCheckpointError(
          error.code,
          "\(error.message): its member \(quotedName(member.path)) is not whole",
          hint: error.hint
        )
      }
      byteCount = member.endOffset
      members.append(member)
    }
  }

  /// The parts of ``skeleton``, and where each is in the archive.
  var skeletonParts: [(offset: UInt64, bytes: ArraySlice<UInt8>)] {
    var parts: [(offset: UInt64, bytes: ArraySlice<UInt8>)] = []
    var rest = skeleton[...]
    var offset: UInt64 = 0
    for member in members {
      let count = Int(member.dataOffset - offset)
      parts.append((offset, rest.prefix(count)))
      rest = rest.dropFirst(count)
      offset = member.endOffset
    }
    parts.append((offset, rest))
    return parts
  }

  private mutating func keep(_ bytes: [UInt8]) {
    skeleton += bytes
    byteCount += UInt64(bytes.count)
  }

  /// Reads what belongs to a member before its data; `block` is the first of its headers.
  private mutating func readMember(
    _ block: [UInt8],
    _ source: inout some TarSource
  ) throws(VMCheckpointError) -> Member {
    var header = try TarHeader(block)
    keep(block)
    var longName: String?
    var isExtended = false
    while header.kind == .longName || header.kind == .extended {
      if header.kind == .longName {
        guard longName == nil else { throw .invalidData("gives a member two long names") }
        longName = try readLongName(header, &source)
      } else {
        // At most one of each sort comes before a member.
        guard !isExtended || members.isEmpty else {
          throw .invalidData("gives a member two extended headers")
        }
        isExtended = true
        try TarExtendedHeader.check(
          try readData(header, limit: Self.maximumExtendedByteCount, &source)
        )
      }
      guard skeleton.count <= Self.maximumSkeletonByteCount else {
        throw .invalidData("has too many headers")
      }
      let next = try source.read(byteCount: TarHeader.blockByteCount)
      guard next.contains(where: { $0 != 0 }) else {
        throw .invalidData("ends where a member should follow")
      }
      header = try TarHeader(next)
      keep(next)
    }
    let isDirectory = header.kind == .directory
    let path = try Self.checkedPath(longName ?? header.name, isDirectory: isDirectory)
    guard !isDirectory || header.byteCount == 0 else {
      throw .invalidData("has a directory \(quotedName(path)) with data")
    }
    // Files of more than 2⁶² bytes do not exist; sums of two offsets below that do not overflow.
    guard header.byteCount <= 1 << 62, byteCount <= 1 << 62 else { throw TarFile.truncated }
    return Member(
      path: path,
      isDirectory: isDirectory,
      byteCount: header.byteCount,
      dataOffset: byteCount
    )
  }

  /// Long names and extended headers for each of the most members would be far less.
  private static let maximumSkeletonByteCount = 32 << 20

  private mutating func readLongName(
    _ header: TarHeader,
    _ source: inout some TarSource
  ) throws(VMCheckpointError) -> String {
    var bytes = try readData(header, limit: Self.maximumNameByteCount, &source)[...]
    while bytes.last == 0 { bytes = bytes.dropLast() }
    guard let name = String(validating: bytes, as: UTF8.self), !name.isEmpty,
      !bytes.contains(0)
    else {
      throw .invalidData("has a member whose name is empty or not UTF-8")
    }
    return name
  }

  /// The data of a header that is about another member.
  private mutating func readData(
    _ header: TarHeader,
    limit: Int,
    _ source: inout some TarSource
  ) throws(VMCheckpointError) -> [UInt8] {
    guard header.byteCount <= UInt64(limit) else {
      throw .invalidData(
        "has a header of \(header.byteCount) bytes, and at most \(limit) make sense"
      )
    }
    let count = Int(header.byteCount)
    let block = TarHeader.blockByteCount
    let bytes = try source.read(byteCount: (count + block - 1) / block * block)
    keep(bytes)
    return Array(bytes[..<count])
  }

  private mutating func readTrailer(
    after block: [UInt8],
    _ source: inout some TarSource
  ) throws(VMCheckpointError) {
    keep(block)
    guard let rest = try source.readRest(limit: Self.maximumTrailerByteCount),
      rest.allSatisfy({ $0 == 0 })
    else {
      throw .invalidData("goes on after its end", hint: "give one archive, not several joined")
    }
    guard rest.count >= TarHeader.blockByteCount else { throw TarFile.truncated }
    keep(rest)
  }

  private static func checkedPath(
    _ name: String,
    isDirectory: Bool
  ) throws(VMCheckpointError) -> String {
    // By bytes, as a program that unpacks the archive sees them. A slash with an accent is not the
    // Character "/", and separates all the same.
    let slash = UInt8(ascii: "/")
    let path = isDirectory && name.utf8.last == slash ? name.utf8.dropLast() : name.utf8[...]
    let components = path.split(separator: slash, omittingEmptySubsequences: false)
    guard components.allSatisfy({ !["", ".", ".."].contains(String(decoding: $0, as: UTF8.self)) })
    else {
      throw .invalidData("has a member with the name \(quotedName(name)), which is not plain")
    }
    return String(decoding: path, as: UTF8.self)
  }
}

/// POSIX's extended headers: tolerated where they say nothing that changes what is read.
enum TarExtendedHeader {
  /// - Throws: ``VMCheckpointError`` that names a record which would have to be obeyed.
  static func check(_ data: [UInt8]) throws(VMCheckpointError) {
    var rest = data[...]
    while !rest.isEmpty {
      // "LENGTH KEY=VALUE\n", all of it counted in LENGTH.
      let digits = rest.prefix(6).prefix { (0x30...0x39).contains($0) }
      let count = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
      guard !digits.isEmpty, count <= rest.count, count > digits.count + 2,
        rest[digits.endIndex] == 0x20
      else { throw malformed }
      let record = rest.prefix(count).dropFirst(digits.count + 1)
      guard record.last == 0x0a, let equals = record.firstIndex(of: UInt8(ascii: "=")),
        let key = String(validating: record[..<equals], as: UTF8.self)
      else { throw malformed }
      guard !["path", "linkpath", "size", "hdrcharset"].contains(key), !key.hasPrefix("GNU.sparse")
      else {
        throw .invalidData(
          "has an extended header with \(quotedName(key)), which is not supported",
          hint: "write it in GNU's format, as by: tar --format=gnu -cf"
        )
      }
      rest = rest.dropFirst(count)
    }
  }

  private static let malformed = VMCheckpointError.invalidData("has a damaged extended header")
}
