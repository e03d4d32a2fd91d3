import VMCheckpoint

/// Blocks of Snappy, decompressed by libsnappy.
///
/// Source: snappy-c.h.
struct SnappyBlocks: Sendable {
  private typealias Length =
    @convention(c) (UnsafeRawPointer?, Int, UnsafeMutablePointer<Int>) -> CInt
  private typealias Uncompress =
    @convention(c) (
      UnsafeRawPointer?, Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>
    ) -> CInt

  private static let library = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("libsnappy.so.1", package: "libsnappy1v5")
  }

  private let length: Length
  private let uncompress: Uncompress

  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the library is missing.
  init() throws(VMCheckpointError) {
    let library = try Self.library.get()
    length = try library.function("snappy_uncompressed_length", as: Length.self)
    uncompress = try library.function("snappy_uncompress", as: Uncompress.self)
  }

  /// How long a block says that its data is; `nil` when it does not begin like a block.
  func byteCount(of block: UnsafeRawBufferPointer) -> Int? {
    var count = 0
    guard length(block.baseAddress, block.count, &count) == 0, count >= 0 else { return nil }
    return count
  }

  /// Decompresses a block into `output`, which its data must fill.
  ///
  /// - Returns: `false` when the block is damaged or its data has another length. `output` holds anything then.
  func decompress(
    _ block: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) -> Bool {
    // libsnappy writes as much as the block says: whether that fits is looked at first.
    guard byteCount(of: block) == output.count else { return false }
    var count = output.count
    return uncompress(block.baseAddress, block.count, output.baseAddress, &count) == 0
      && count == output.count
  }
}
