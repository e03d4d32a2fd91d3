import CDecompression
import VMCheckpoint

/// xz by liblzma.
///
/// Source: lzma/base.h and lzma/container.h.
final class XZDecompressor: Decompressor {
  private typealias Stream = cdec_lzma_stream
  private typealias Init =
    @convention(c) (UnsafeMutablePointer<Stream>, UInt64, UInt32) -> CInt
  private typealias Call = @convention(c) (UnsafeMutablePointer<Stream>, CInt) -> CInt
  private typealias End = @convention(c) (UnsafeMutablePointer<Stream>) -> Void

  private static let library = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("liblzma.so.5", package: "liblzma5")
  }
  private static let (ok, streamEnd, noMemory, memoryLimit, bufferError):
    (CInt, CInt, CInt, CInt, CInt) =
      (0, 1, 5, 6, 10)

  /// What a stream's dictionary may take: `xz -9` needs 65 MiB.
  private static let memoryByteLimit: UInt64 = 256 << 20

  private let stream = UnsafeMutablePointer<Stream>.allocate(capacity: 1)
  private let begin: Init
  private let run: Call
  private let end: End

  init() throws(VMCheckpointError) {
    stream.initialize(to: Stream())
    let library = try Self.library.get()
    begin = try library.function("lzma_stream_decoder", as: Init.self)
    run = try library.function("lzma_code", as: Call.self)
    end = try library.function("lzma_end", as: End.self)
    try restart()
  }

  deinit {
    end(stream)
    stream.deallocate()
  }

  func decompress(
    _ input: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> DecompressionStep {
    stream.pointee.next_in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_in = input.count
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = output.count
    let code = run(stream, 0)
    switch code {
    case Self.ok, Self.streamEnd, Self.bufferError: break
    case Self.noMemory, Self.memoryLimit:
      throw VMCheckpointError(
        .outOfResources,
        "its xz data needs more than \(Self.memoryByteLimit) bytes of memory to decompress"
      )
    default: throw CompressionMethod.xz.damaged
    }
    return DecompressionStep(
      consumedByteCount: input.count - stream.pointee.avail_in,
      producedByteCount: output.count - stream.pointee.avail_out,
      isEndOfStream: code == Self.streamEnd
    )
  }

  func restart() throws(VMCheckpointError) {
    guard begin(stream, Self.memoryByteLimit, 0) == Self.ok else {
      throw VMCheckpointError(.outOfResources, "liblzma cannot begin to decompress")
    }
  }
}
