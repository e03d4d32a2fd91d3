import VMCheckpoint

/// Where a page is in a kdump, and how it is stored.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     8  where in the file the page's data is
///          8     4  how many bytes it has
///         12     4  how it is compressed
///         16     8  flags of the kernel's `struct page`, not used
///
/// Source: makedumpfile `diskdump_mod.h`, `page_desc_t`.
struct KdumpPageDescriptor: Hashable {
  static let byteCount = 24

  /// How a page is compressed.
  enum Method: UInt32 {
    case none = 0
    case zlib = 1
    case lzo = 2
    case snappy = 4
    case zstd = 0x20

    var name: String {
      switch self {
      case .none: "plain"
      case .zlib: "zlib"
      case .lzo: "LZO"
      case .snappy: "Snappy"
      case .zstd: "zstd"
      }
    }
  }

  var offset: UInt64
  var byteCount: Int
  var method: Method

  /// - Parameters:
  ///   - bytes: Descriptors, of which `index` is meant.
  ///   - number: Which descriptor of the file it is, from 0 on.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(
    _ bytes: [UInt8],
    _ index: Int,
    number: UInt64,
    in file: DumpFile
  ) throws(VMCheckpointError) {
    let start = index * Self.byteCount
    let (offset, count, flags) = bytes.withUnsafeBytes { bytes in
      (
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self)),
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: start + 8, as: UInt32.self)),
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: start + 12, as: UInt32.self))
      )
    }
    guard let method = Method(rawValue: flags) else {
      throw .invalidData(
        "is damaged: page descriptor \(number) has the unknown flags \(hexString(UInt64(flags)))"
      )
    }
    let isRight =
      method == .none ? count == Page.byteCount : (1...UInt32(Page.byteCount)).contains(count)
    guard isRight else {
      throw .invalidData(
        "is damaged: page descriptor \(number) has \(count) bytes of \(method.name) data for a page"
      )
    }
    let place = "in the data of page descriptor \(number)"
    try file.require(offset, UInt64(count), place: place)
    try file.requireNoGap(offset, UInt64(count), place: place)
    self.offset = offset
    byteCount = Int(count)
    self.method = method
  }

  /// Checks all descriptors of a dump, so that a page that is missing shows before any is stored.
  ///
  /// - Returns: The methods that are used.
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  static func check(
    _ header: KdumpHeader,
    count: UInt64,
    in file: DumpFile,
    _ cancellation: CancellationFlag
  ) throws(VMCheckpointError) -> Set<Method> {
    var methods: Set<Method> = []
    let place = "in its page descriptors"
    try file.require(header.descriptorOffset, count * UInt64(byteCount), place: place)
    try file.requireNoGap(header.descriptorOffset, count * UInt64(byteCount), place: place)
    for first in stride(from: 0, to: count, by: 8192) {
      try cancellation.check()
      let here = min(8192, count - first)
      let bytes = try file.read(
        at: header.descriptorOffset + first * UInt64(byteCount),
        byteCount: Int(here) * byteCount,
        place: place
      )
      var last: Method?
      for index in 0..<Int(here) {
        let found = try Self(bytes, index, number: first + UInt64(index), in: file).method
        if found != last { methods.insert(found) }
        last = found
      }
    }
    return methods
  }
}
