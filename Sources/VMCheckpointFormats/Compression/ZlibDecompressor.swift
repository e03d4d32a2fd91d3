import CDecompression
import VMCheckpoint

/// gzip by zlib.
///
/// Source: zlib.h, "Advanced Functions": 16 added to the window's bits means gzip.
final class ZlibDecompressor: Decompressor {
  private typealias Stream = cdec_zlib_stream
  private typealias Call = @convention(c) (UnsafeMutablePointer<Stream>, CInt) -> CInt
  private typealias Init =
    @convention(c) (UnsafeMutablePointer<Stream>, CInt, UnsafePointer<CChar>, CInt) -> CInt
  private typealias End = @convention(c) (UnsafeMutablePointer<Stream>) -> CInt

  private static let library = Result { () throws(VMCheckpointError) in
    try LoadedLibrary("libz.so.1", package: "zlib1g")
  }
  private static let windowBits: CInt = 15 + 16
  private static let (ok, streamEnd, bufferError): (CInt, CInt, CInt) = (0, 1, -5)

  private let stream = UnsafeMutablePointer<Stream>.allocate(capacity: 1)
  private let inflate: Call
  private let reset: End
  private let end: End

  init() throws(VMCheckpointError) {
    stream.initialize(to: Stream())
    let library = try Self.library.get()
    inflate = try library.function("inflate", as: Call.self)
    reset = try library.function("inflateReset", as: End.self)
    end = try library.function("inflateEnd", as: End.self)
    let begin = try library.function("inflateInit2_", as: Init.self)
    // The version that the structure is of.
    guard begin(stream, Self.windowBits, "1.2.11", CInt(MemoryLayout<Stream>.size)) == Self.ok
    else {
      throw VMCheckpointError(.outOfResources, "zlib cannot begin to decompress")
    }
  }

  deinit {
    _ = end(stream)
    stream.deallocate()
  }

  func decompress(
    _ input: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> DecompressionStep {
    stream.pointee.next_in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_in = CUnsignedInt(clamping: input.count)
    stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_out = CUnsignedInt(clamping: output.count)
    let code = inflate(stream, 0)
    guard [Self.ok, Self.streamEnd, Self.bufferError].contains(code) else {
      throw CompressionMethod.gzip.damaged
    }
    return DecompressionStep(
      consumedByteCount: input.count - Int(stream.pointee.avail_in),
      producedByteCount: output.count - Int(stream.pointee.avail_out),
      isEndOfStream: code == Self.streamEnd
    )
  }

  func restart() throws(VMCheckpointError) {
    guard reset(stream) == Self.ok else { throw CompressionMethod.gzip.damaged }
  }
}
