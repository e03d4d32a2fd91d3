/// A kernel's own description of its types, in BPF Type Format (BTF).
///
///     OFFSET  SIZE  DESCRIPTION
///          0     2  magic number 0xEB9F
///          2     1  version: 1
///          3     1  flags
///          4     4  length of this header
///          8     8  offset and length of the types, from the header's end
///         16     8  offset and length of the strings
///
/// Source: https://docs.kernel.org/bpf/btf.html
package final class BTF {
  static let headerByteCount = 24
  static let maximumByteCount = 64 << 20
  private static let maximumHeaderByteCount = 256
  /// How many typedefs and qualifiers may lead to a type.
  private static let maximumChainLength = 32
  /// How deep members of unnamed structures are looked for.
  private static let maximumDepth = 8

  enum Kind: UInt32 {
    case integer = 1
    case pointer, array, structure, union, enumeration, forward, typedef, volatile, const, restrict
    case function, prototype, variable, section, float, declarationTag, typeTag, enumeration64

    /// How many bytes follow the type's own 12.
    @inline(__always)
    func tailByteCount(_ count: Int) -> Int {
      switch self {
      case .integer, .variable, .declarationTag: 4
      case .array: 12
      case .structure, .union, .section, .enumeration64: 12 * count
      case .enumeration, .prototype: 8 * count
      default: 0
      }
    }
  }

  /// A member's place and form.
  package struct Field: Hashable, Sendable {
    /// In bytes, from its structure's beginning.
    package var offset: Int
    package var byteCount: Int
    /// Of a bit field; 0 for other members.
    package var bitCount: Int
    /// Of a bit field, in the byte at ``offset``.
    package var bitOffset: Int
    var type: Int
  }

  /// What a type's first 12 bytes say.
  struct TypeHeader {
    var name: Int
    var kind: Kind
    var hasBitFields: Bool
    /// Of members, enumerators, or parameters.
    var count: Int
    /// The size, or the number of another type.
    var size: Int
    /// Where what follows is.
    var tail: Int
  }

  private let bytes: [UInt8]
  private let typesStart: Int
  private let stringsStart: Int
  private let stringsEnd: Int
  /// Where each type is in the bytes; type 0 is `void`.
  private var places: [UInt32] = [0]
  /// Named structures and unions by hash, as pairs of a name's hash and a type's number, open-addressed.
  private var structures: [(hash: UInt64, type: UInt32)] = []
  private var enumerations: [UInt32] = []
  private var fields: [String: [String: Field?]] = [:]
  private var constants: [String: Int64?] = [:]
  private var namedTypes: [String: Int?] = [:]

  /// How many bytes header, types and strings have together, if `header` is a plausible one of a whole kernel.
  static func byteCount(_ header: UnsafeRawBufferPointer) -> Int? {
    func word(_ offset: Int) -> Int {
      Int(UInt32(littleEndian: header.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }
    let (length, types, typesLength) = (word(4), word(8), word(12))
    let (strings, stringsLength) = (word(16), word(20))
    guard word(0) == 0x0001_eb9f, (headerByteCount...maximumHeaderByteCount).contains(length),
      types == 0, typesLength % 4 == 0, strings >= typesLength,
      length + strings + stringsLength <= maximumByteCount, stringsLength > 1
    else { return nil }
    return length + strings + stringsLength
  }

  /// - Throws: ``GuestFault`` when `bytes` are not whole and sound.
  package init(_ bytes: [UInt8]) throws(GuestFault) {
    guard bytes.count >= Self.headerByteCount,
      let byteCount = bytes.withUnsafeBytes({ Self.byteCount($0) }), byteCount <= bytes.count
    else { throw .broken("the type information has a wrong header") }
    self.bytes = bytes
    func word(_ offset: Int) -> Int {
      bytes.withUnsafeBytes {
        Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
      }
    }
    typesStart = word(4) + word(8)
    let typesEnd = typesStart + word(12)
    stringsStart = word(4) + word(16)
    stringsEnd = stringsStart + word(20)
    guard bytes[stringsStart] == 0, bytes[stringsEnd - 1] == 0 else {
      throw .broken("the type information has damaged strings")
    }
    var named: [UInt32] = []
    var position = typesStart
    while position < typesEnd {
      guard position + 12 <= typesEnd, let header = header(at: position),
        header.kind.tailByteCount(header.count) <= typesEnd - header.tail,
        header.name < stringsEnd - stringsStart
      else { throw .broken("the type information is damaged") }
      let number = UInt32(places.count)
      places.append(UInt32(position))
      switch header.kind {
      case .structure, .union: if header.name != 0 { named.append(number) }
      case .enumeration, .enumeration64: enumerations.append(number)
      default: break
      }
      position = header.tail + header.kind.tailByteCount(header.count)
    }
    index(named)
  }

  private func index(_ numbers: [UInt32]) {
    var size = 64
    while size < numbers.count * 2 { size *= 2 }
    structures = Array(repeating: (0, 0), count: size)
    for number in numbers {
      let hash = Self.hash(string(at: header(Int(number))!.name))
      var slot = Int(truncatingIfNeeded: hash >> 16) & (size - 1)
      for _ in 0..<128 {
        if structures[slot].type == 0 {
          structures[slot] = (hash, number)
          break
        }
        // The first of a name is the one that it means.
        if structures[slot].hash == hash { break }
        slot = (slot + 1) & (size - 1)
      }
    }
  }

  private static func hash(_ name: some Sequence<UInt8>) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in name { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    return (hash ^ hash >> 29) &* 0xbf58_476d_1ce4_e5b9
  }

  /// The SHA-256 of all of it, in hexadecimal.
  package var sha256: String {
    SHA256Hasher.hash(bytes).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  // MARK: Types

  @inline(__always)
  private func word(_ position: Int) -> UInt32 {
    bytes.withUnsafeBytes {
      UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: UInt32.self))
    }
  }

  @inline(__always)
  private func header(at position: Int) -> TypeHeader? {
    let information = word(position + 4)
    guard let kind = Kind(rawValue: information >> 24 & 0x1f) else { return nil }
    return TypeHeader(
      name: Int(word(position)),
      kind: kind,
      hasBitFields: information >> 31 == 1,
      count: Int(information & 0xffff),
      size: Int(word(position + 8)),
      tail: position + 12
    )
  }

  /// The type with this number; `nil` for `void` and where there is none.
  func header(_ type: Int) -> TypeHeader? {
    guard type > 0, type < places.count else { return nil }
    return header(at: Int(places[type]))
  }

  /// How many types there are, `void` included.
  package var typeCount: Int { places.count }

  private func string(at offset: Int) -> ArraySlice<UInt8> {
    let start = stringsStart + offset
    guard start < stringsEnd else { return [] }
    // The last byte of all strings is 0.
    return bytes[start..<bytes[start..<stringsEnd].firstIndex(of: 0)!]
  }

  private func isString(at offset: Int, _ text: String) -> Bool {
    let start = stringsStart + offset
    let count = text.utf8.count
    guard start + count < stringsEnd, bytes[start + count] == 0 else { return false }
    return bytes[start..<(start + count)].elementsEqual(text.utf8)
  }

  /// The number of the first structure or union with this name.
  package func structure(_ name: String) -> Int? {
    if let known = namedTypes[name] { return known }
    var result: Int?
    let hash = Self.hash(name.utf8)
    var slot = Int(truncatingIfNeeded: hash >> 16) & (structures.count - 1)
    for _ in 0..<128 {
      let entry = structures[slot]
      if entry.type == 0 { break }
      if entry.hash == hash, isString(at: header(Int(entry.type))!.name, name) {
        result = Int(entry.type)
        break
      }
      slot = (slot + 1) & (structures.count - 1)
    }
    namedTypes[name] = .some(result)
    return result
  }

  /// What typedefs and qualifiers lead to; `nil` for `void` and where they go round in circles.
  func stripped(_ type: Int) -> (type: Int, header: TypeHeader)? {
    var type = type
    for _ in 0..<Self.maximumChainLength {
      guard let header = header(type) else { return nil }
      switch header.kind {
      case .typedef, .volatile, .const, .restrict, .typeTag: type = header.size
      default: return (type, header)
      }
    }
    return nil
  }

  /// The type's size in bytes; 0 where it has none.
  func byteCount(_ type: Int, depth: Int = 0) -> Int {
    guard depth < Self.maximumChainLength, let (_, header) = stripped(type) else { return 0 }
    switch header.kind {
    case .pointer: return 8
    case .array:
      let element = byteCount(Int(word(header.tail)), depth: depth + 1)
      let (count, overflows) = element.multipliedReportingOverflow(by: Int(word(header.tail + 8)))
      return overflows ? 0 : count
    case .integer, .structure, .union, .enumeration, .enumeration64, .float: return header.size
    default: return 0
    }
  }

  /// An array's element and how many it has.
  func array(_ type: Int) -> (element: Int, count: Int)? {
    guard let (_, header) = stripped(type), header.kind == .array else { return nil }
    return (Int(word(header.tail)), Int(word(header.tail + 8)))
  }

  // MARK: Members

  /// A member of a structure, as the type has it.
  struct Member {
    var name: Int
    var type: Int
    var bitOffset: Int
    var bitCount: Int
  }

  func members(_ type: Int) -> (count: Int, member: (Int) -> Member)? {
    guard let (_, header) = stripped(type), header.kind == .structure || header.kind == .union
    else { return nil }
    return (
      header.count,
      { [self] index in
        let position = header.tail + 12 * index
        let offset = Int(word(position + 8))
        return Member(
          name: Int(word(position)),
          type: Int(word(position + 4)),
          bitOffset: header.hasBitFields ? offset & 0xff_ffff : offset,
          bitCount: header.hasBitFields ? offset >> 24 : 0
        )
      }
    )
  }

  private func find(_ name: String, in type: Int, depth: Int, budget: inout Int) -> Member? {
    guard let (count, member) = members(type) else { return nil }
    for index in 0..<count {
      budget -= 1
      guard budget > 0 else { return nil }
      let candidate = member(index)
      if candidate.name != 0 {
        if isString(at: candidate.name, name) { return candidate }
      } else if depth < Self.maximumDepth,
        var inner = find(name, in: candidate.type, depth: depth + 1, budget: &budget)
      {
        inner.bitOffset += candidate.bitOffset
        return inner
      }
    }
    return nil
  }

  /// The member of a structure that `path`, such as `mnt.mnt_root`, leads to; `nil` where there is none.
  package func field(_ structure: String, _ path: String) -> Field? {
    if let known = fields[structure]?[path] { return known }
    let result = self.structure(structure).flatMap { find(path, in: $0) }
    fields[structure, default: [:]][path] = .some(result)
    return result
  }

  private func find(_ path: String, in structure: Int) -> Field? {
    var type = structure
    var bits = 0
    var bitCount = 0
    // Hostile types may nest so that looking for a name takes for ever.
    var budget = 1 << 20
    for part in path.split(separator: ".") {
      guard let member = find(String(part), in: type, depth: 0, budget: &budget) else { return nil }
      type = member.type
      bits += member.bitOffset
      bitCount = member.bitCount
    }
    return Field(
      offset: bits >> 3,
      byteCount: byteCount(type),
      bitCount: bitCount,
      bitOffset: bits & 7,
      type: type
    )
  }

  /// The size of a structure in bytes; `nil` where there is none.
  package func byteCount(of structure: String) -> Int? {
    self.structure(structure).map { byteCount($0) }
  }

  // MARK: Constants

  /// The value of an enumerator, the first one with this name.
  package func constant(_ name: String) -> Int64? {
    if let known = constants[name] { return known }
    let result = find(enumerator: name)
    constants[name] = .some(result)
    return result
  }

  private func find(enumerator name: String) -> Int64? {
    for number in enumerations {
      guard let header = header(Int(number)) else { continue }
      let isWide = header.kind == .enumeration64
      for index in 0..<header.count {
        let position = header.tail + (isWide ? 12 : 8) * index
        guard isString(at: Int(word(position)), name) else { continue }
        let low = word(position + 4)
        return isWide
          ? Int64(bitPattern: UInt64(low) | UInt64(word(position + 8)) << 32)
          : Int64(Int32(bitPattern: low))
      }
    }
    return nil
  }

  /// A member's or type's name, safe to show.
  func name(at offset: Int) -> String { GuestText.escaped(string(at: offset)) }
}
