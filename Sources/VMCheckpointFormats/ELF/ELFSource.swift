import SystemPackage
import VMCheckpoint

/// Where the headers and notes of an ELF core are read from.
protocol ELFSource {
  /// The file's size; `nil`: a stream.
  var byteCount: UInt64? { get }

  /// `byteCount` bytes from `offset` on.
  ///
  /// - Parameter place: Where they are, for the error when the file has fewer, as in "in its header".
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  mutating func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8]
}

extension ELFSource {
  /// Checks that the file has `byteCount` bytes from `offset` on; a stream shows that only at its end.
  func require(_ offset: UInt64, _ byteCount: UInt64, place: String) throws(VMCheckpointError) {
    let (end, overflows) = offset.addingReportingOverflow(byteCount)
    guard !overflows, end <= self.byteCount ?? UInt64(Int64.max) else { throw ELFHeader.cut(place) }
  }
}

/// A core in a file.
struct ELFFile: ELFSource {
  let descriptor: FileDescriptor
  let byteCount: UInt64?

  func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8] {
    try require(offset, UInt64(byteCount), place: place)
    var bytes = [UInt8](repeating: 0, count: byteCount)
    // Array's own closures only rethrow untyped errors.
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(Errno) in try FileIO.read(into: buffer, from: descriptor, at: offset) }
    }
    switch result {
    case .success(byteCount): return bytes
    case .success: throw ELFHeader.cut(place)
    case .failure(let error): throw VMCheckpointError(.inputOutput, "cannot be read: \(error)")
    }
  }
}

/// A core in memory.
struct ELFBytes: ELFSource {
  private let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var byteCount: UInt64? { UInt64(bytes.count) }

  func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8] {
    try require(offset, UInt64(byteCount), place: place)
    return Array(bytes[Int(offset)..<(Int(offset) + byteCount)])
  }
}

/// The beginning of a core that comes through a pipe, kept while its headers and notes are read.
final class ELFStreamHead: ELFSource {
  /// Headers and notes of any real core; what comes before RAM is held in memory.
  static let maximumByteCount = 128 << 20

  private let stream: StreamReader
  /// All that was taken from the stream so far.
  private(set) var bytes: [UInt8] = []

  init(_ stream: StreamReader) { self.stream = stream }

  var byteCount: UInt64? { nil }

  func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8] {
    try require(offset, UInt64(byteCount), place: place)
    let end = offset + UInt64(byteCount)
    guard end <= UInt64(Self.maximumByteCount) else { throw Self.notInOrder }
    try fill(upTo: Int(end), place: place)
    return Array(bytes[Int(offset)..<Int(end)])
  }

  /// Takes bytes from the stream until there are `count`.
  func fill(upTo count: Int, place: String) throws(VMCheckpointError) {
    var room = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < count {
      let wanted = min(room.count, count - bytes.count)
      let stream = stream
      let got = try room.withUnsafeMutableBytes { buffer in
        Result { () throws(VMCheckpointError) in
          try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
        }
      }.get()
      guard got > 0 else { throw ELFHeader.cut(place) }
      bytes += room[..<got]
    }
  }

  /// The error for a core that cannot be read in one pass.
  static let notInOrder = VMCheckpointError.invalidData(
    "cannot be read from a pipe: its headers, notes and RAM are not in order",
    hint: "put it into a file, and write elf:PATH"
  )
}
