import SystemPackage
import VMCheckpoint

/// Reads a dump's bytes in order, from a pipe or a file, and knows where it is.
///
/// Handed from thread to thread; the thread that has it uses it alone.
final class DumpInput: @unchecked Sendable {
  /// The largest piece that ``withBytes(count:place:_:)`` gives.
  static let maximumPieceByteCount = 128 << 10

  private let stream: StreamReader
  private let buffer: UnsafeMutableRawBufferPointer
  private var start = 0
  private var end = 0

  /// How many bytes were taken so far.
  private(set) var offset: UInt64 = 0

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(_ stream: StreamReader) throws(VMCheckpointError) {
    self.stream = stream
    buffer = try LargeMemory.allocate(byteCount: 2 * Self.maximumPieceByteCount)
  }

  deinit { LargeMemory.free(buffer) }

  /// Whether nothing more comes. Waits until that is known.
  func isAtEnd() throws(VMCheckpointError) -> Bool {
    if start == end { try fill() }
    return start == end
  }

  /// The next bytes, which are still to be taken: `count` of them, or all if there are fewer.
  func peek(count: Int) throws(VMCheckpointError) -> [UInt8] {
    precondition(count <= Self.maximumPieceByteCount)
    while end - start < count {
      let before = end - start
      try fill()
      if end - start == before { break }
    }
    return Array(buffer[start..<min(end, start + count)])
  }

  /// The next bytes.
  ///
  /// - Parameter place: Where they are, for the error when there are fewer, as in "in its header".
  /// - Throws: ``VMCheckpointError``, whose message goes on after the dump's name when its code is
  ///   `invalidData`.
  func read(byteCount: Int, place: @autoclosure () -> String) throws(VMCheckpointError) -> [UInt8] {
    try withBytes(count: byteCount, place: place()) { Array($0) }
  }

  /// Calls `body` with the next `count` bytes, without a copy, and steps over them.
  ///
  /// - Precondition: `count` is at most ``maximumPieceByteCount``.
  func withBytes<Result>(
    count: Int,
    place: @autoclosure () -> String,
    _ body: (UnsafeRawBufferPointer) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    precondition(count <= Self.maximumPieceByteCount)
    while end - start < count {
      let before = end - start
      try fill()
      guard end - start > before else { throw .cutShort(place()) }
    }
    let bytes = UnsafeRawBufferPointer(rebasing: buffer[start..<(start + count)])
    start += count
    offset += UInt64(count)
    return try body(bytes)
  }

  /// Calls `body` with what is in the buffer, and steps over it.
  func withAvailableBytes(
    _ body: (UnsafeRawBufferPointer) throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) {
    try withBytes(count: min(end - start, Self.maximumPieceByteCount), place: "", body)
  }

  /// Fills `room` with the next bytes.
  func read(
    into room: UnsafeMutableRawBufferPointer,
    place: @autoclosure () -> String
  ) throws(VMCheckpointError) {
    var done = min(end - start, room.count)
    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[start..<(start + done)]))
    start += done
    while done < room.count {
      // The buffer is empty here, and a copy less is made without it.
      let count = try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: room[done...]))
      guard count > 0 else { throw .cutShort(place()) }
      done += count
    }
    offset += UInt64(done)
  }

  /// Steps over bytes.
  func skip(byteCount: UInt64, place: @autoclosure () -> String) throws(VMCheckpointError) {
    var rest = byteCount
    while rest > 0 {
      let count = Int(min(rest, UInt64(Self.maximumPieceByteCount)))
      try withBytes(count: count, place: place()) { _ in }
      rest -= UInt64(count)
    }
  }

  /// One read into the buffer, which is not full.
  private func fill() throws(VMCheckpointError) {
    if start > 0 {
      let kept = end - start
      if kept > 0 {
        UnsafeMutableRawBufferPointer(rebasing: buffer[..<kept])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
      }
      start = 0
      end = kept
    }
    end += try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[end...]))
  }
}

extension SourceReference.Place {
  /// Calls `body` with a descriptor to read from the beginning. A file is opened before and closed after.
  ///
  /// - Parameter noun: What the file is, for messages.
  /// - Throws: ``VMCheckpointError`` when there is no such file or it is something else; what `body` throws.
  func withDescriptor<Result>(
    noun: String,
    _ body: (Int32) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    switch self {
    case .standardInput(let fileDescriptor): return try body(fileDescriptor)
    case .path(let path):
      let (descriptor, _) = try FileRAMReader.open(path: path, noun: noun)
      defer { try? descriptor.close() }
      return try body(descriptor.rawValue)
    }
  }
}
