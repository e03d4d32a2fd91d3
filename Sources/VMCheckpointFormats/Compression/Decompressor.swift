import VMCheckpoint

/// Decompresses a stream piece by piece, in bounded memory. One thread uses it at a time.
protocol Decompressor: AnyObject {
  /// Takes from `input` what fills `output`, as far as both reach.
  ///
  /// - Returns: How many bytes were taken and made, and whether a stream ended there. What follows its end
  ///   may be another stream.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when the data is damaged.
  func decompress(
    _ input: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> DecompressionStep

  /// Begins with the next stream.
  func restart() throws(VMCheckpointError)
}

struct DecompressionStep {
  var consumedByteCount: Int
  var producedByteCount: Int
  var isEndOfStream: Bool
}

/// The ways in which streams are compressed that can be undone by a library.
enum CompressionMethod: String, CaseIterable, Sendable {
  case gzip
  case bzip2
  case xz
  case zstd

  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the library is missing.
  func makeDecompressor() throws(VMCheckpointError) -> any Decompressor {
    switch self {
    case .gzip: try ZlibDecompressor()
    case .bzip2: try Bzip2Decompressor()
    case .xz: try XZDecompressor()
    case .zstd: try ZstdDecompressor()
    }
  }

  /// The error for data that is not of this method.
  var damaged: VMCheckpointError { .invalidData("its \(rawValue) data is damaged") }
}
