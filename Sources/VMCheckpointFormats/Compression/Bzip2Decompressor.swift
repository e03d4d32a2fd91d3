import CDecompression
import VMCheckpoint

/// bzip2 by libbz2.
///
/// Source: bzlib.h, "The core (low-level) library functions".
final class Bzip2Decompressor: Decompressor {
  private typealias Stream = cdec_bzip2_stream
  private typealias Init = @convention(c) (UnsafeMutablePointer<Stream>, CInt, CInt) -> CInt
  private typealias Call = @convention(c) (UnsafeMutablePointer<Stream>) -> CInt

  private static let library = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("libbz2.so.1.0", package: "libbz2-1.0")
  }
  private static let (ok, streamEnd): (CInt, CInt) = (0, 4)

  private let stream = UnsafeMutablePointer<Stream>.allocate(capacity: 1)
  private let begin: Init
  private let run: Call
  private let end: Call

  init() throws(VMCheckpointError) {
    stream.initialize(to: Stream())
    let library = try Self.library.get()
    begin = try library.function("BZ2_bzDecompressInit", as: Init.self)
    run = try library.function("BZ2_bzDecompress", as: Call.self)
    end = try library.function("BZ2_bzDecompressEnd", as: Call.self)
    try start()
  }

  deinit {
    _ = end(stream)
    stream.deallocate()
  }

  private func start() throws(VMCheckpointError) {
    stream.initialize(to: Stream())
    guard begin(stream, 0, 0) == Self.ok else {
      throw VMCheckpointError(.outOfResources, "libbz2 cannot begin to decompress")
    }
  }

  func decompress(
    _ input: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> DecompressionStep {
    stream.pointee.next_in = input.baseAddress?.assumingMemoryBound(to: CChar.self)
    stream.pointee.avail_in = CUnsignedInt(clamping: input.count)
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: CChar.self)
    stream.pointee.avail_out = CUnsignedInt(clamping: output.count)
    let code = run(stream)
    guard code == Self.ok || code == Self.streamEnd else { throw CompressionMethod.bzip2.damaged }
    return DecompressionStep(
      consumedByteCount: input.count - Int(stream.pointee.avail_in),
      producedByteCount: output.count - Int(stream.pointee.avail_out),
      isEndOfStream: code == Self.streamEnd
    )
  }

  func restart() throws(VMCheckpointError) {
    _ = end(stream)
    try start()
  }
}
