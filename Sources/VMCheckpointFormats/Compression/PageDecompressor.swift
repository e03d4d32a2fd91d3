import VMCheckpoint

/// Decompresses pages that are compressed one by one. One thread uses it at a time.
///
/// Libraries are loaded when they are first needed. None writes behind the page, whatever the data says.
final class PageDecompressor {
  /// How a page is compressed.
  enum Method: Hashable {
    /// A zlib stream.
    case zlib
    /// LZO1X.
    case lzo
    /// A block of Snappy, without frames.
    case snappy
    /// A frame.
    case zstd
  }

  // Sources: zlib.h; lzo/lzo1x.h; zstd.h.
  private typealias Zlib =
    @convention(c) (
      UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt>, UnsafeRawPointer?, UInt
    ) -> CInt
  private typealias LZO =
    @convention(c) (
      UnsafeRawPointer?, UInt, UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt>,
      UnsafeMutableRawPointer?
    ) -> CInt
  private typealias ZstdMake = @convention(c) () -> OpaquePointer?
  private typealias ZstdFree = @convention(c) (OpaquePointer?) -> Int
  private typealias Zstd =
    @convention(c) (
      OpaquePointer?, UnsafeMutableRawPointer?, Int, UnsafeRawPointer?, Int
    ) -> Int

  private static let libz = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("libz.so.1", package: "zlib1g").function("uncompress", as: Zlib.self)
  }
  private static let liblzo = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("liblzo2.so.2", package: "liblzo2-2")
      .function("lzo1x_decompress_safe", as: LZO.self)
  }
  private static let libzstd = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("libzstd.so.1", package: "libzstd1")
  }

  private var zlib: Zlib?
  private var lzo: LZO?
  private var snappy: SnappyBlocks?
  private var zstd: (decompress: Zstd, free: ZstdFree, context: OpaquePointer)?

  init() {}

  deinit { if let zstd { _ = zstd.free(zstd.context) } }

  /// Loads what `method` needs.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the library is missing.
  func prepare(_ method: Method) throws(VMCheckpointError) {
    switch method {
    case .zlib: if zlib == nil { zlib = try Self.libz.get() }
    case .lzo: if lzo == nil { lzo = try Self.liblzo.get() }
    case .snappy: if snappy == nil { snappy = try SnappyBlocks() }
    case .zstd: if zstd == nil { zstd = try Self.makeZstd() }
    }
  }

  /// Decompresses `data` into `page`, which it must fill.
  ///
  /// - Returns: `false` when the data is damaged or of another length. `page` holds anything then.
  /// - Throws: As ``prepare(_:)``.
  func decompress(
    _ data: UnsafeRawBufferPointer,
    _ method: Method,
    into page: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Bool {
    try prepare(method)
    var count = UInt(page.count)
    switch method {
    case .zlib:
      return zlib!(page.baseAddress, &count, data.baseAddress, UInt(data.count)) == 0
        && count == page.count
    case .lzo:
      return lzo!(data.baseAddress, UInt(data.count), page.baseAddress, &count, nil) == 0
        && count == page.count
    case .snappy: return snappy!.decompress(data, into: page)
    case .zstd:
      let (decompress, _, context) = zstd!
      return decompress(context, page.baseAddress, page.count, data.baseAddress, data.count)
        == page.count
    }
  }

  private static func makeZstd() throws(VMCheckpointError) -> (Zstd, ZstdFree, OpaquePointer) {
    let library = try libzstd.get()
    let free = try library.function("ZSTD_freeDCtx", as: ZstdFree.self)
    let decompress = try library.function("ZSTD_decompressDCtx", as: Zstd.self)
    guard let context = try library.function("ZSTD_createDCtx", as: ZstdMake.self)() else {
      throw VMCheckpointError(.outOfResources, "libzstd cannot begin to decompress")
    }
    return (decompress, free, context)
  }
}
