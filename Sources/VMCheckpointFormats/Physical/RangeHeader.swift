import VMCheckpoint

/// The header of a range in a capture of LiME or AVML.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     4  `EMiL`, or `AVML` where the bytes that follow are compressed
///          4     4  version: 1 of LiME, 2 of AVML
///          8     8  the physical address of the first byte
///         16     8  that of the last byte
///         24     8  reserved
///
/// All numbers are little-endian. Sources: LiME `doc/README.md` and `src/lime.h`; AVML `src/image.rs`.
struct RangeHeader: Hashable {
  static let byteCount = 32
  static let maximumRangeCount = 1 << 20

  /// How a range's bytes are stored.
  enum Kind: Hashable {
    /// LiME, version 1: as they are.
    case plain
    /// AVML, version 2: in frames of Snappy.
    case snappy

    var magic: String { self == .plain ? "EMiL" : "AVML" }
    var version: UInt32 { self == .plain ? 1 : 2 }
    var tool: String { self == .plain ? "LiME" : "AVML" }
  }

  var kind: Kind
  var range: PhysicalRange

  /// - Parameters:
  ///   - bytes: ``byteCount`` of them.
  ///   - number: Which range it is, from 1 on.
  ///   - offset: Where in the file the header is.
  ///   - allowed: What may come.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(
    _ bytes: [UInt8],
    number: Int,
    offset: UInt64,
    allowed: Set<Kind>
  ) throws(VMCheckpointError) {
    let magic = bytes[..<4]
    guard let kind = [Kind.plain, .snappy].first(where: { magic.elementsEqual($0.magic.utf8) })
    else {
      throw .invalidData(
        number == 1
          ? "does not begin with a range's header"
          : "is damaged: what follows range \(number - 1), at offset \(offset), is not a range's header"
      )
    }
    guard allowed.contains(kind) else {
      throw .invalidData(
        "has a range of \(kind.tool) at offset \(offset)",
        hint: "write avml:PATH, which reads both"
      )
    }
    let version = bytes.littleEndian(at: 4, as: UInt32.self)
    guard version == kind.version else {
      throw .invalidData(
        "has a range of \(kind.tool)'s version \(version), and only \(kind.version) can be read: it is "
          + "range \(number), at offset \(offset)"
      )
    }
    let first = bytes.littleEndian(at: 8, as: UInt64.self)
    let last = bytes.littleEndian(at: 16, as: UInt64.self)
    guard first <= last else {
      throw .invalidData(
        "is damaged: range \(number) begins at GPA \(hexString(first)) and ends before it, at "
          + hexString(last)
      )
    }
    guard last < RAMLayout.gpaLimit else {
      throw .invalidData(
        "is damaged: range \(number) at GPA \(hexString(first)) ends beyond 52-bit physical addresses, at "
          + hexString(last)
      )
    }
    guard number <= Self.maximumRangeCount else {
      throw .invalidData("has more than \(Self.maximumRangeCount) ranges, which are too many")
    }
    self.kind = kind
    range = PhysicalRange(number: number, addresses: first..<(last + 1))
  }

  /// The header of a range of LiME.
  static func encodedLiME(_ region: MemoryRegion) -> [UInt8] {
    var bytes = Array(Kind.plain.magic.utf8)
    bytes.appendLittleEndian(Kind.plain.version)
    bytes.appendLittleEndian(region.gpa)
    bytes.appendLittleEndian(region.gpa + (region.byteCount - 1))
    bytes.appendLittleEndian(UInt64(0))
    return bytes
  }
}
