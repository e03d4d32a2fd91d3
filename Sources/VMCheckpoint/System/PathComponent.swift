/// Any text as one part of a path.
///
/// What no path can have gets a `~` at its end, which no name of a user's has; other bytes that no such name has
/// become `%XX`, and so does `/`. So two texts never become one.
package enum PathComponent {
  /// `NAME_MAX` of Linux.
  package static let maximumByteCount = 255

  /// `nil` when it would be longer than a part of a path can be.
  package static func of(_ text: String) -> String? {
    let component = escaped(text)
    return component.utf8.count <= maximumByteCount ? component : nil
  }

  /// The same, of any length.
  package static func escaped(_ text: String) -> String {
    if text.isEmpty || text == "." || text == ".." { return text + "~" }
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      if SnapshotName.allows(byte), byte != UInt8(ascii: "/") {
        bytes.append(byte)
      } else {
        bytes += Array("%\(byte < 16 ? "0" : "")\(String(byte, radix: 16, uppercase: true))".utf8)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
