/// All structures of a kernel and their members, one after the other.
package struct BTFMemberIterator {
  /// A member, or, where it has no name, the structure itself.
  package struct Row {
    package var structure: String
    package var member: String?
    /// In bytes; of the member from the structure's beginning.
    package var offset: Int?
    /// Of a bit field: where it begins in the byte at ``offset``, and how many bits it has.
    package var bitOffset: Int?
    package var bitCount: Int?
    package var byteCount: Int
    package var memberType: String
  }

  /// Structures without names that nest would give rows without end.
  private static let stepLimit = 10_000_000

  private let types: BTF
  private var stepCount = 0
  private var type = 0
  private var name = ""
  /// Members that are still to come, and how far into the structure their own one begins.
  private var open: [(type: Int, index: Int, bitOffset: Int)] = []

  package init(_ types: BTF) { self.types = types }

  package mutating func next() -> Row? {
    while let (structure, index, base) = open.popLast() {
      stepCount += 1
      guard stepCount < Self.stepLimit else { return nil }
      guard let (count, member) = types.members(structure), index < count else { continue }
      open.append((structure, index + 1, base))
      let found = member(index)
      let bits = base &+ found.bitOffset
      if found.name == 0 {
        // Members of a structure without a name are its parent's.
        if open.count < 10 { open.append((found.type, 0, bits)) }
        continue
      }
      return Row(
        structure: name,
        member: types.name(at: found.name),
        offset: bits >> 3,
        bitOffset: found.bitCount > 0 ? bits & 7 : nil,
        bitCount: found.bitCount > 0 ? found.bitCount : nil,
        byteCount: types.byteCount(found.type),
        memberType: types.description(of: found.type)
      )
    }
    while type + 1 < types.typeCount {
      type += 1
      guard let header = types.header(type), header.name != 0,
        header.kind == .structure || header.kind == .union
      else { continue }
      name = types.name(at: header.name)
      open = [(type, 0, 0)]
      return Row(
        structure: name,
        byteCount: header.size,
        memberType: header.kind == .union ? "union" : "struct"
      )
    }
    return nil
  }
}

extension BTF {
  /// A type as C writes it, in short.
  func description(of type: Int) -> String {
    var suffix = ""
    var type = type
    for _ in 0..<16 {
      guard let header = header(type) else { return "void" + suffix }
      let own = header.name != 0 ? name(at: header.name) : "…"
      switch header.kind {
      case .structure: return "struct \(own)" + suffix
      case .union: return "union \(own)" + suffix
      case .enumeration, .enumeration64: return "enum \(own)" + suffix
      case .forward: return (header.hasBitFields ? "union " : "struct ") + own + suffix
      case .typedef, .integer, .float: return own + suffix
      case .pointer:
        suffix = " *" + suffix.drop { $0 == " " }
        type = header.size
      case .array:
        guard let (element, count) = array(type) else { return "…" + suffix }
        suffix += "[\(count)]"
        type = element
      case .prototype: return "function" + suffix
      case .const, .volatile, .restrict, .typeTag: type = header.size
      default: return own + suffix
      }
    }
    return "…" + suffix
  }
}
