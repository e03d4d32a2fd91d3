import VMCheckpoint

/// One header block of a tar archive, as far as reading needs it.
///
///     OFFSET  SIZE  FIELD
///          0   100  name
///        100     8  mode
///        108     8  uid
///        116     8  gid
///        124    12  size
///        136    12  mtime
///        148     8  checksum
///        156     1  type
///        157   100  link name
///        257     8  "ustar", and a format's version
///        345   155  POSIX only: prefix of the name
///
/// Sources: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".
struct TarHeader {
  /// Headers, and the data of members, take whole blocks.
  static let blockByteCount = 512

  /// What the header describes.
  enum Kind: Hashable {
    case file
    case directory
    /// GNU: its data is the name of the member that follows.
    case longName
    /// POSIX: its data is more about the member that follows, or about all.
    case extended
  }

  var name: String
  var kind: Kind
  var byteCount: UInt64

  /// Reads a header block that is not all zero.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the
  ///   archive's name.
  init(_ block: [UInt8]) throws(VMCheckpointError) {
    precondition(block.count == Self.blockByteCount, "a header is one block")
    let isGNU = block[257..<265].elementsEqual("ustar  \0".utf8)
    guard isGNU || block[257..<263].elementsEqual("ustar\0".utf8) else {
      throw .invalidData(
        "holds no tar header where one must be",
        hint: "write it uncompressed in GNU's format, as by: tar --format=gnu -cf"
      )
    }
    guard try Self.octal(block[148..<156], "checksum") == Self.checksum(block) else {
      throw .invalidData("has a header whose checksum is wrong")
    }
    var bytes = Array(Self.text(block[0..<100]))
    let prefix = Self.text(block[345..<500])
    if !isGNU, !prefix.isEmpty { bytes = prefix + [UInt8(ascii: "/")] + bytes }
    guard let name = String(validating: bytes, as: UTF8.self), !name.isEmpty else {
      throw .invalidData("has a member whose name is empty or not UTF-8")
    }
    self.name = name
    kind = try Self.kind(block[156], name: name)
    byteCount = try Self.number(block[124..<136], "size")
  }

  private static func kind(_ type: UInt8, name: String) throws(VMCheckpointError) -> Kind {
    let what: String
    switch type {
    case 0, UInt8(ascii: "0"): return .file
    case UInt8(ascii: "5"): return .directory
    case UInt8(ascii: "L"): return .longName
    case UInt8(ascii: "x"), UInt8(ascii: "g"): return .extended
    case UInt8(ascii: "1"): what = "a hard link"
    case UInt8(ascii: "2"), UInt8(ascii: "K"): what = "a symbolic link"
    case UInt8(ascii: "3"), UInt8(ascii: "4"): what = "a device file"
    case UInt8(ascii: "6"): what = "a named pipe"
    case UInt8(ascii: "S"): what = "a sparse file, which cannot be read in place"
    case UInt8(ascii: "M"): what = "a part of a file of another volume"
    default: what = "of the unknown type \(hexString(UInt64(type)))"
    }
    throw .invalidData(
      "has a member \(quotedName(name)) that is \(what)",
      hint: "pack the files themselves, as by: tar --format=gnu -cf"
    )
  }

  /// The sum of all bytes, the checksum's own counted as spaces.
  private static func checksum(_ block: [UInt8]) -> UInt64 {
    let own = block[148..<156].reduce(0) { $0 + UInt64($1) }
    return block.reduce(0) { $0 + UInt64($1) } - own + 8 * 0x20
  }

  /// The bytes before the first NUL.
  private static func text(_ field: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    field.prefix { $0 != 0 }
  }

  /// Octal digits, or GNU's base 256; the first bit says which.
  private static func number(
    _ field: ArraySlice<UInt8>,
    _ what: String
  ) throws(VMCheckpointError) -> UInt64 {
    guard let first = field.first, first & 0x80 != 0 else { return try octal(field, what) }
    // The second bit is the sign.
    var value = UInt64(first & 0x7f)
    for byte in field.dropFirst() {
      guard value <= UInt64(Int64.max) >> 8 else {
        throw .invalidData("has a header whose \(what) is negative or has more than 63 bits")
      }
      value = value << 8 | UInt64(byte)
    }
    return value
  }

  private static func octal(
    _ field: ArraySlice<UInt8>,
    _ what: String
  ) throws(VMCheckpointError) -> UInt64 {
    let digits = field.drop { $0 == 0x20 }.prefix { (0x30...0x37).contains($0) }
    let rest = field[digits.endIndex...]
    guard !digits.isEmpty, rest.allSatisfy({ $0 == 0 || $0 == 0x20 }) else {
      throw .invalidData("has a header whose \(what) is not a number")
    }
    return digits.reduce(0) { $0 << 3 | UInt64($1 & 7) }
  }
}
