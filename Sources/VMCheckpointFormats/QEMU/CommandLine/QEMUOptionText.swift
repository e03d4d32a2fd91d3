import Foundation

/// The value of an option of QEMU's, in either of its two notations: members between commas, or JSON.
///
/// QEMU reads bytes, so that everything here looks at bytes as well: a `Character` may be a comma together with an
/// accent, which is not equal to a comma and yet ends a member.
enum QEMUOptionText {
  private static let comma = UInt8(ascii: ",")

  /// What commas separate. Two commas are one that separates nothing.
  static func parts(_ value: String) -> [String] {
    let bytes = Array(value.utf8)
    var parts: [[UInt8]] = [[]]
    var index = 0
    while index < bytes.count {
      if bytes[index] != comma {
        parts[parts.count - 1].append(bytes[index])
      } else if index + 1 < bytes.count, bytes[index + 1] == comma {
        parts[parts.count - 1].append(comma)
        index += 1
      } else {
        parts.append([])
      }
      index += 1
    }
    return parts.map { String(decoding: $0, as: UTF8.self) }
  }

  /// A part's name and value; `nil` when it has only one of them.
  static func member(_ part: String) -> (name: String, value: String)? {
    let bytes = part.utf8
    guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")) else { return nil }
    return (
      String(decoding: bytes[..<equals], as: UTF8.self),
      String(decoding: bytes[bytes.index(after: equals)...], as: UTF8.self)
    )
  }

  /// The members of a value that are words.
  static func members(_ value: String) -> [String: String] {
    if let json = json(value) { return json.compactMapValues { $0 as? String } }
    return Dictionary(parts(value).compactMap(member).map { ($0.name, $0.value) }) { $1 }
  }

  /// The object that a value in JSON is; `nil` for the other notation, or when it cannot be read.
  static func json(_ value: String) -> [String: Any]? {
    guard value.utf8.first == UInt8(ascii: "{") else { return nil }
    return (try? JSONSerialization.jsonObject(with: Data(value.utf8))) as? [String: Any] ?? [:]
  }

  /// `word` as one member's value.
  static func escapingCommas(_ word: String) -> String {
    replacing(comma, with: [comma, comma], in: word)
  }

  static func replacing(_ byte: UInt8, with replacement: [UInt8], in word: String) -> String {
    String(decoding: word.utf8.flatMap { $0 == byte ? replacement : [$0] }, as: UTF8.self)
  }

  // MARK: Objects

  /// A value as an object, whose members may be objects again; `nil` when it cannot be read.
  ///
  /// - Parameter firstName: The name of the first member where only its value is given.
  static func object(_ value: String, firstName: String) -> [String: Any]? {
    if let json = json(value) { return json.isEmpty ? nil : json }
    var object: [String: Any] = [:]
    for (index, part) in parts(value).enumerated() {
      guard let (name, value) = member(part) else {
        guard index == 0, !part.isEmpty else { return nil }
        object[firstName] = part
        continue
      }
      let path = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
      guard insert(value, at: path[...], into: &object) else { return nil }
    }
    return object
  }

  /// - Returns: `false` when another value is there.
  private static func insert(
    _ value: String,
    at path: ArraySlice<String>,
    into object: inout [String: Any]
  ) -> Bool {
    guard let name = path.first, !name.isEmpty else { return false }
    guard path.count > 1 else {
      guard object[name] == nil else { return false }
      object[name] = value
      return true
    }
    guard object[name] == nil || object[name] is [String: Any] else { return false }
    var inner = object[name] as? [String: Any] ?? [:]
    guard insert(value, at: path.dropFirst(), into: &inner) else { return false }
    object[name] = inner
    return true
  }

  /// An object of words and switches as a value. Its members may have been read in the other notation, in which
  /// a switch is a word.
  static func text(_ object: [String: Any], asJSON: Bool) -> String {
    func switched(_ value: Any, inside switches: Bool) -> Any {
      if let inner = value as? [String: Any] {
        return inner.reduce(into: [String: Any]()) { result, member in
          result[member.key] = switched(member.value, inside: member.key == "cache" || switches)
        }
      }
      guard switches, let word = value as? String, ["on", "off"].contains(word) else {
        return value
      }
      return word == "on"
    }
    if asJSON {
      let data = try? JSONSerialization.data(
        withJSONObject: switched(object, inside: false),
        options: [.sortedKeys, .withoutEscapingSlashes]
      )
      return data.map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
    func flat(_ object: [String: Any], _ prefix: String) -> [String] {
      object.sorted { $0.key < $1.key }.flatMap { name, value -> [String] in
        if let inner = value as? [String: Any] { return flat(inner, "\(prefix)\(name).") }
        let word = (value as? String) ?? ((value as? Bool) == true ? "on" : "off")
        return ["\(prefix)\(name)=\(escapingCommas(word))"]
      }
    }
    return flat(object, "").joined(separator: ",")
  }
}
