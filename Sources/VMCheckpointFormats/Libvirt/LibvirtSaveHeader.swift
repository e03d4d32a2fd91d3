import VMCheckpoint

/// What a libvirt save image has before QEMU's migration stream.
///
///     OFFSET  SIZE  DESCRIPTION
///          0    16  `LibvirtQemudSave`; `LibvirtQemudPart` while it is being written
///         16     4  version: 2, in the byte order of the host
///         20     4  how many bytes follow the header before the stream
///         24     4  whether the domain ran
///         28     4  how the stream is compressed
///         32     4  where behind the header the cookie begins; 0: there is none
///         36    56  zeros
///         92     …  the domain's XML and a NUL; the cookie's XML and a NUL; zeros
///
/// Source: libvirt `src/qemu/qemu_saveimage.h`, 9.0 to 11.3.
struct LibvirtSaveHeader: Hashable {
  static let byteCount = 92
  static let magic = "LibvirtQemudSave"
  static let partialMagic = "LibvirtQemudPart"
  private static let version: UInt32 = 2

  /// A domain's XML has some KiB, and libvirt leaves 64 KiB of room.
  private static let maximumDataByteCount: UInt32 = 64 << 20

  /// Source: libvirt `src/qemu/qemu_saveimage.c`, `virQEMUSaveDataNew`.
  private static let roomByteCount = 64 << 10

  /// How the stream is stored.
  enum Format: Hashable {
    case raw
    case compressed(CompressionMethod)
    case lzop
    /// A stream with the capability `mapped-ram`.
    case sparse

    init?(number: UInt32) {
      switch number {
      case 0: self = .raw
      case 1: self = .compressed(.gzip)
      case 2: self = .compressed(.bzip2)
      case 3: self = .compressed(.xz)
      case 4: self = .lzop
      case 5: self = .compressed(.zstd)
      case 6: self = .sparse
      default: return nil
      }
    }
  }

  /// The first 92 bytes as they came.
  private var bytes: [UInt8]
  private let isByteSwapped: Bool
  /// How many bytes follow before the stream.
  let dataByteCount: Int
  let format: Format

  /// - Parameter name: The image's, for messages.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  init(_ bytes: [UInt8], name: String) throws(VMCheckpointError) {
    precondition(bytes.count == Self.byteCount)
    let magic = String(decoding: bytes[..<16], as: UTF8.self)
    guard magic != Self.partialMagic else {
      throw .invalidData(
        "\(name) is not complete: libvirt has not finished it",
        hint: "wait until virsh save is done, or save the domain again"
      )
    }
    guard magic == Self.magic else {
      throw .invalidData(
        "\(name) is not a libvirt save image: it does not begin with \(Self.magic)"
      )
    }
    self.bytes = bytes
    let version = Self.number(bytes, at: 16, swapped: false)
    isByteSwapped = version > 0xffff
    guard Self.number(bytes, at: 16, swapped: isByteSwapped) == Self.version else {
      throw .invalidData("\(name): version \(version) of libvirt's save images is unknown")
    }
    let count = Self.number(bytes, at: 20, swapped: isByteSwapped)
    guard (1...Self.maximumDataByteCount).contains(count) else {
      throw .invalidData("\(name): a description of \(count) bytes")
    }
    dataByteCount = Int(count)
    let cookieOffset = Self.number(bytes, at: 32, swapped: isByteSwapped)
    guard cookieOffset < count else {
      throw .invalidData("\(name): its cookie is outside its description")
    }
    let number = Self.number(bytes, at: 28, swapped: isByteSwapped)
    guard let format = Format(number: number) else {
      throw .invalidData(
        "\(name): compression \(number) is unknown",
        hint: "save the domain without compression"
      )
    }
    self.format = format
  }

  /// Checks that the cookie begins behind the XML: an offset into the XML would make a part of it the cookie.
  ///
  /// - Parameters:
  ///   - data: What follows the 92 bytes before the stream.
  ///   - name: The image's, for messages.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  func checkCookie(in data: [UInt8], name: String) throws(VMCheckpointError) {
    let cookieOffset = Int(Self.number(bytes, at: 32, swapped: isByteSwapped))
    guard cookieOffset > 0 else { return }
    guard let end = data.firstIndex(of: 0), end < cookieOffset else {
      throw .invalidData("\(name): its cookie begins inside its XML, at offset \(cookieOffset)")
    }
  }

  /// The 92 bytes of an image with the same description whose stream is not compressed.
  var uncompressedBytes: [UInt8] {
    var result = bytes
    for index in 28..<32 { result[index] = 0 }
    return result
  }

  /// The 92 bytes and what follows them, with another XML, of an image whose stream is not compressed.
  ///
  /// As much room as there was stays, or 64 KiB are added as libvirt does: `virsh save-image-edit` needs some.
  ///
  /// - Parameters:
  ///   - data: What follows the 92 bytes before the stream.
  ///   - xml: Without a NUL.
  func replacingXML(in data: ArraySlice<UInt8>, with xml: [UInt8]) -> [UInt8] {
    let cookieOffset = Self.number(bytes, at: 32, swapped: isByteSwapped)
    var result = xml + [0]
    var newCookieOffset: UInt32 = 0
    if cookieOffset > 0 {
      newCookieOffset = UInt32(result.count)
      result += data.dropFirst(Int(cookieOffset)).prefix { $0 != 0 } + [0]
    }
    let byteCount = result.count <= data.count ? data.count : result.count + Self.roomByteCount
    result += Array(repeating: 0, count: byteCount - result.count)
    var head = uncompressedBytes
    for (offset, value) in [(20, UInt32(byteCount)), (32, newCookieOffset)] {
      withUnsafeBytes(of: isByteSwapped ? value.byteSwapped : value) {
        head.replaceSubrange(offset..<(offset + 4), with: $0)
      }
    }
    return head + result
  }

  private static func number(_ bytes: [UInt8], at offset: Int, swapped: Bool) -> UInt32 {
    let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    return swapped ? value.byteSwapped : value
  }
}
