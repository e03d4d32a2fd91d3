import Glibc
import SystemPackage
import VMCheckpoint

/// Reads a migration stream's bytes in order, and knows where it is.
///
/// Numbers are big-endian, as everywhere in the stream.
final class QEMUStreamInput {
  /// The largest piece that ``withBytes(count:_:)`` gives.
  static let maximumPieceByteCount = 64 << 10

  private let source: StreamReader
  private let buffer: UnsafeMutableRawBufferPointer
  private var start = 0
  private var end = 0
  private var reachedEnd = false
  /// Where in its file the stream begins, if it is a regular one; else `nil`. What was skipped behind its end
  /// shows when more is read.
  private let startFileOffset: UInt64?
  /// For messages.
  var name: String { source.name }

  /// How many bytes were taken from the stream so far.
  private(set) var offset: UInt64 = 0

  /// Where the next byte is in the stream's file, if that is a regular one.
  var fileOffset: UInt64? { startFileOffset.map { $0 + offset } }

  /// The stream's.
  var descriptor: Int32 { source.descriptor }

  /// - Parameters:
  ///   - descriptor: Stays the caller's.
  ///   - name: The source's, for messages.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(
    descriptor: Int32,
    name: String,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    buffer = try LargeMemory.allocate(byteCount: 1 << 20)
    var status = stat()
    let isRegular = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    let position = isRegular ? lseek(descriptor, 0, SEEK_CUR) : -1
    startFileOffset = position < 0 ? nil : UInt64(position)
    source = StreamReader(descriptor: descriptor, name: name, cancellation: cancellation)
  }

  deinit {
    LargeMemory.free(buffer)
  }

  /// Whether nothing more comes. Waits until that is known.
  func isAtEnd() throws(VMCheckpointError) -> Bool {
    if start == end { try fill() }
    return start == end
  }

  func byte() throws(VMCheckpointError) -> UInt8 {
    if start == end { try require(1) }
    defer { advance(1) }
    return buffer[start]
  }

  func uint16() throws(VMCheckpointError) -> UInt16 { try integer() }
  func uint32() throws(VMCheckpointError) -> UInt32 { try integer() }
  func uint64() throws(VMCheckpointError) -> UInt64 { try integer() }

  private func integer<Value: FixedWidthInteger>() throws(VMCheckpointError) -> Value {
    let byteCount = MemoryLayout<Value>.size
    try require(byteCount)
    defer { advance(byteCount) }
    return Value(
      bigEndian: UnsafeRawPointer(buffer.baseAddress! + start).loadUnaligned(as: Value.self)
    )
  }

  /// - Precondition: `count` is at most ``maximumPieceByteCount``.
  func bytes(count: Int) throws(VMCheckpointError) -> [UInt8] {
    try withBytes(count: count) { Array($0) }
  }

  /// Calls `body` with the next `count` bytes, without a copy, and steps over them.
  ///
  /// - Precondition: `count` is at most ``maximumPieceByteCount``.
  func withBytes<Result>(
    count: Int,
    _ body: (UnsafeRawBufferPointer) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    precondition(count <= Self.maximumPieceByteCount)
    try require(count)
    defer { advance(count) }
    return try body(UnsafeRawBufferPointer(rebasing: buffer[start..<(start + count)]))
  }

  /// Steps over `byteCount` bytes: without reading them where the descriptor can seek.
  func skip(byteCount: UInt64) throws(VMCheckpointError) {
    let buffered = min(byteCount, UInt64(end - start))
    advance(Int(buffered))
    var rest = byteCount - buffered
    guard rest > 0 else { return }
    if startFileOffset != nil {
      guard lseek(source.descriptor, off_t(clamping: rest), SEEK_CUR) >= 0 else {
        throw VMCheckpointError(
          .inputOutput,
          "cannot read \(name): \(Errno(rawValue: errno))"
        )
      }
      offset += rest
      return
    }
    while rest > 0 {
      if start == end { try require(1) }
      let count = min(rest, UInt64(end - start))
      advance(Int(count))
      rest -= count
    }
  }

  /// Steps over zeros.
  ///
  /// - Returns: How many there were; at most `limit`.
  func skipZeros(limit: UInt64) throws(VMCheckpointError) -> UInt64 {
    var count: UInt64 = 0
    while count < limit, try !isAtEnd() {
      let zeroCount = buffer[start..<end].prefix(Int(limit - count)).prefix { $0 == 0 }.count
      guard zeroCount > 0 else { break }
      advance(zeroCount)
      count += UInt64(zeroCount)
    }
    return count
  }

  /// Takes all that follows, up to `maximumByteCount`.
  ///
  /// - Parameter checkBeforeMore: Gets what was read so far, when more follows.
  /// - Returns: `nil` when more follows.
  func rest(
    maximumByteCount: Int,
    checkBeforeMore: ([UInt8]) throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) -> [UInt8]? {
    var result: [UInt8] = []
    while try !isAtEnd() {
      try checkBeforeMore(result)
      guard result.count + (end - start) <= maximumByteCount else { return nil }
      result.append(contentsOf: buffer[start..<end])
      advance(end - start)
    }
    return result
  }

  /// An error at the current place.
  func invalid(_ message: String, hint: String? = nil) -> VMCheckpointError {
    .invalidData("\(name), byte \(offset): \(message)", hint: hint)
  }

  private func advance(_ count: Int) {
    start += count
    offset += UInt64(count)
  }

  private func require(_ count: Int) throws(VMCheckpointError) {
    while end - start < count {
      let before = end - start
      try fill()
      guard end - start > before else {
        throw .invalidData(
          "\(name) ends too early, after \(offset + UInt64(before)) bytes",
          hint: "the migration failed or was interrupted; take the stream again"
        )
      }
    }
  }

  /// Reads more, waiting for it; nothing more in the buffer afterwards means the end.
  private func fill() throws(VMCheckpointError) {
    guard !reachedEnd else { return }
    if start > 0 {
      let kept = end - start
      if kept > 0 {
        buffer.baseAddress!.copyMemory(from: buffer.baseAddress! + start, byteCount: kept)
      }
      (start, end) = (0, kept)
    }
    let room = UnsafeMutableRawBufferPointer(rebasing: buffer[end...])
    let count = try source.read(into: room)
    end += count
    reachedEnd = count == 0
  }
}
