/// What a Linux kernel says of itself to crash dumps: a page of text that begins with `OSRELEASE=`.
///
/// A hint only, since any process of the guest can write such a page. What it says is checked where it is used.
package struct VMCoreInfo {
  /// How the page begins.
  static let magic = Array("OSRELEASE=".utf8)
  private static let maximumLineCount = 512

  package private(set) var release = ""
  /// Virtual addresses by symbol.
  private(set) var symbols: [String: UInt64] = [:]
  private var numbers: [String: Int64] = [:]
  /// Members' places by `type.member`.
  private(set) var offsets: [String: Int] = [:]
  /// How far KASLR has moved the image.
  private(set) var kernelOffset: UInt64?

  /// Whether a page begins as one does.
  @inline(__always)
  static func isBeginning(_ page: UnsafeRawPointer) -> Bool {
    // "OSRELEAS"
    page.load(as: UInt64.self) == UInt64(littleEndian: 0x5341_454c_4552_534f)
      && page.load(fromByteOffset: 8, as: UInt16.self) == UInt16(littleEndian: 0x3d45)
  }

  init(_ page: UnsafeRawPointer) {
    let bytes = UnsafeRawBufferPointer(start: page, count: Page.byteCount)
    let text = bytes.prefix { $0 != 0 }
    for line in text.split(separator: UInt8(ascii: "\n")).prefix(Self.maximumLineCount) {
      guard let equals = line.firstIndex(of: UInt8(ascii: "=")) else { continue }
      let key = String(decoding: line[..<equals], as: UTF8.self)
      let value = String(decoding: line[(equals + 1)...], as: UTF8.self)
      if key == "OSRELEASE" {
        release = GuestText.escaped(line[(equals + 1)...])
      } else if let name = Self.argument(of: "SYMBOL", in: key) {
        symbols[name] = UInt64(value, radix: 16)
      } else if let name = Self.argument(of: "NUMBER", in: key) {
        numbers[name] = Self.number(value)
      } else if let name = Self.argument(of: "OFFSET", in: key) {
        offsets[name] = Int(value)
      } else if key == "KERNELOFFSET" {
        kernelOffset = UInt64(value, radix: 16)
      }
    }
  }

  /// A number such as `phys_base`.
  func number(_ name: String) -> UInt64? { numbers[name].map(UInt64.init(bitPattern:)) }

  private static func argument(of word: String, in key: String) -> String? {
    guard key.hasPrefix(word + "("), key.hasSuffix(")") else { return nil }
    return String(key.dropFirst(word.utf8.count + 1).dropLast())
  }

  private static func number(_ text: String) -> Int64? {
    guard text.hasPrefix("0x") else { return Int64(text) }
    return UInt64(text.dropFirst(2), radix: 16).map(Int64.init(bitPattern:))
  }
}
