/// A JSON object whose keys and types are all expected: what the format's decoders read from.
package struct StrictJSONObject {
  package let path: JSONPath
  private let values: [String: StrictJSONValue]
  /// In the document's order.
  private let keys: [String]

  package init(_ value: StrictJSONValue, at path: JSONPath) throws(VMCheckpointError) {
    guard case .object(let members) = value else {
      throw path.invalid("expected an object, found \(value.typeDescription)")
    }
    self.path = path
    keys = members.map(\.key)
    values = Dictionary(uniqueKeysWithValues: members.map { ($0.key, $0.value) })
  }

  package func contains(_ key: String) -> Bool { values[key] != nil }

  /// In the document's order.
  package var allKeys: [String] { keys }

  /// The error for the value of `key`.
  package func invalid(_ key: String, _ message: String, hint: String? = nil) -> VMCheckpointError {
    path.appending(.key(key)).invalid(message, hint: hint)
  }

  package func rejectUnknownKeys(
    allowed: Set<String>,
    explaining: (String) -> String? = { _ in nil }
  ) throws(VMCheckpointError) {
    for key in keys where !allowed.contains(key) {
      throw invalid(key, explaining(key) ?? "unknown key")
    }
  }

  /// The value of `key`.
  package func value(_ key: String) throws(VMCheckpointError) -> StrictJSONValue {
    guard let value = values[key] else { throw invalid(key, "missing") }
    return value
  }

  package func string(_ key: String) throws(VMCheckpointError) -> String {
    let value = try value(key)
    guard case .string(let string) = value else {
      throw invalid(key, "expected a string, found \(value.typeDescription)")
    }
    return string
  }

  /// A number of at most 32 bits.
  package func uint32(_ key: String) throws(VMCheckpointError) -> UInt32 {
    let value = try value(key)
    guard case .integer(let isNegative, let magnitude) = value else {
      throw invalid(key, "expected an integer, found \(value.typeDescription)")
    }
    guard let number = UInt32(exactly: magnitude), !isNegative || number == 0 else {
      throw invalid(key, "out of range: expected 0 to \(UInt32.max)")
    }
    return number
  }

  /// A number, or a string `"0x…"` of up to 16 digits.
  package func uint64(_ key: String) throws(VMCheckpointError) -> UInt64 {
    let (isNegative, magnitude) = try integer(key)
    guard !isNegative || magnitude == 0 else {
      throw invalid(key, "out of range: expected 0 to \(UInt64.max)")
    }
    return magnitude
  }

  /// A number, or a string `"0x…"` with the 64 bits of its two's complement.
  package func int64(_ key: String) throws(VMCheckpointError) -> Int64 {
    if case .string = try value(key) {
      return Int64(bitPattern: try integer(key).magnitude)
    }
    let (isNegative, magnitude) = try integer(key)
    let number =
      isNegative && magnitude != 0
      ? Int64(exactly: magnitude - 1).map { -1 - $0 } : Int64(exactly: magnitude)
    guard let number else {
      throw invalid(key, "out of range: expected \(Int64.min) to \(Int64.max)")
    }
    return number
  }

  private func integer(
    _ key: String
  ) throws(VMCheckpointError) -> (isNegative: Bool, magnitude: UInt64) {
    let expected = "expected an integer or a string \"0x…\""
    switch try value(key) {
    case .integer(let isNegative, let magnitude):
      return (isNegative, magnitude)
    case .string(let string):
      guard string.hasPrefix("0x"), (3...18).contains(string.utf8.count),
        string.utf8.dropFirst(2).allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
        let magnitude = UInt64(string.dropFirst(2), radix: 16)
      else {
        throw invalid(key, "\(expected) of 1 to 16 hexadecimal digits")
      }
      return (false, magnitude)
    case let value:
      throw invalid(key, "\(expected), found \(value.typeDescription)")
    }
  }
}
