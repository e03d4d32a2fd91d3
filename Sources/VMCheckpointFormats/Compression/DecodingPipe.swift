import VMCheckpoint

/// Data that is decoded into a pipe while it is read.
protocol DecodingPipe: Sendable {
  /// The end to read from. Where an error comes up, the data ends.
  var descriptor: Int32 { get }

  /// Ends the decoding, once the reader has what it wants. Call exactly once.
  ///
  /// - Returns: What went wrong, if anything did.
  func finish() -> VMCheckpointError?
}
