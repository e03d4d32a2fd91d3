import CDecompression
import VMCheckpoint

/// zstd by libzstd, which refuses windows above 128 MiB by itself.
///
/// Source: zstd.h, "Streaming decompression".
final class ZstdDecompressor: Decompressor {
  private typealias Make = @convention(c) () -> OpaquePointer?
  private typealias Free = @convention(c) (OpaquePointer?) -> Int
  private typealias Run =
    @convention(c) (
      OpaquePointer?, UnsafeMutablePointer<cdec_zstd_output>, UnsafeMutablePointer<cdec_zstd_input>
    ) -> Int
  private typealias IsError = @convention(c) (Int) -> CUnsignedInt

  private static let library = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("libzstd.so.1", package: "libzstd1")
  }

  private let context: OpaquePointer?
  private let run: Run
  private let free: Free
  private let isError: IsError

  init() throws(VMCheckpointError) {
    let library = try Self.library.get()
    run = try library.function("ZSTD_decompressStream", as: Run.self)
    free = try library.function("ZSTD_freeDStream", as: Free.self)
    isError = try library.function("ZSTD_isError", as: IsError.self)
    context = try library.function("ZSTD_createDStream", as: Make.self)()
    guard context != nil else {
      throw VMCheckpointError(.outOfResources, "libzstd cannot begin to decompress")
    }
  }

  deinit { _ = free(context) }

  func decompress(
    _ input: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> DecompressionStep {
    var source = cdec_zstd_input(src: input.baseAddress, size: input.count, pos: 0)
    var destination = cdec_zstd_output(dst: output.baseAddress, size: output.count, pos: 0)
    let rest = run(context, &destination, &source)
    guard isError(rest) == 0 else { throw CompressionMethod.zstd.damaged }
    return DecompressionStep(
      consumedByteCount: source.pos,
      producedByteCount: destination.pos,
      isEndOfStream: rest == 0
    )
  }

  // After a frame's end, the context begins with the next by itself.
  func restart() {}
}
