/// Makes type information of structures whose members follow each other as C lays them out.
package struct BTFBuilder {
  /// A type and its size in bytes.
  package struct TypeID {
    var number: UInt32
    var byteCount: Int
    var alignment: Int
  }

  private var types: [UInt8] = []
  private var strings: [UInt8] = [0]
  private var count: UInt32 = 0
  /// Places of members by `type.member`, and sizes by `type`.
  package private(set) var places: [String: Int] = [:]

  package init() {}

  private mutating func name(_ text: String) -> UInt32 {
    guard !text.isEmpty else { return 0 }
    let offset = UInt32(strings.count)
    strings += Array(text.utf8) + [0]
    return offset
  }

  private mutating func add(_ words: [UInt32]) -> UInt32 {
    for word in words { types += littleEndian(word) }
    count += 1
    return count
  }

  package mutating func integer(_ text: String, _ byteCount: Int) -> TypeID {
    let number = add([name(text), 1 << 24, UInt32(byteCount), UInt32(byteCount * 8)])
    return TypeID(number: number, byteCount: byteCount, alignment: byteCount)
  }

  package mutating func array(of element: TypeID, _ elementCount: Int) -> TypeID {
    let number = add([0, 3 << 24, 0, element.number, element.number, UInt32(elementCount)])
    return TypeID(
      number: number,
      byteCount: element.byteCount * elementCount,
      alignment: element.alignment
    )
  }

  /// - Parameters:
  ///   - isUnion: Whether all members begin at 0.
  ///   - bitFields: Members that are bit fields, as bits; with any, the others say so too (kflag).
  package mutating func structure(
    _ text: String,
    _ members: [(name: String, type: TypeID)],
    isUnion: Bool = false,
    bitFields: [(name: String, type: TypeID, bitOffset: Int, bitCount: Int)] = [],
    byteCount: Int? = nil
  ) -> TypeID {
    var words: [UInt32] = []
    var end = 0
    var alignment = 1
    for (member, type) in members {
      let offset = isUnion ? 0 : (end + type.alignment - 1) / type.alignment * type.alignment
      places["\(text).\(member)"] = offset
      words += [name(member), type.number, UInt32(offset * 8)]
      end = max(end, offset + type.byteCount)
      alignment = max(alignment, type.alignment)
    }
    for field in bitFields {
      words += [
        name(field.name), field.type.number,
        UInt32(field.bitOffset) | UInt32(field.bitCount) << 24,
      ]
      end = max(end, (field.bitOffset + field.bitCount + 7) / 8)
    }
    let size = byteCount ?? (end + alignment - 1) / alignment * alignment
    places[text] = size
    let kind: UInt32 = isUnion ? 5 : 4
    let information =
      kind << 24 | UInt32(members.count + bitFields.count) | (bitFields.isEmpty ? 0 : 1 << 31)
    let number = add([name(text), information, UInt32(size)] + words)
    return TypeID(number: number, byteCount: size, alignment: alignment)
  }

  package mutating func enumeration(_ text: String, _ values: [(name: String, value: UInt32)]) {
    _ = add(
      [name(text), 6 << 24 | UInt32(values.count), 4]
        + values.flatMap { [name($0.name), $0.value] }
    )
  }

  /// All of it; types without a meaning make it as long as a kernel's.
  package mutating func bytes(minimumTypesByteCount: Int = 110_000) -> [UInt8] {
    while types.count < minimumTypesByteCount { _ = add([0, 1 << 24, 4, 32]) }
    var header: [UInt8] = [0x9f, 0xeb, 1, 0]
    for word in [24, 0, types.count, types.count, strings.count] {
      header += littleEndian(UInt32(word))
    }
    return header + types + strings
  }
}

/// A number's bytes, the lowest first.
package func littleEndian<Number: FixedWidthInteger>(_ value: Number) -> [UInt8] {
  (0..<(Number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: value >> Number($0 * 8)) }
}
