import VMCheckpoint

/// The beginning of a core that comes through a pipe, kept while its headers and notes are read.
final class ELFStreamHead: DumpSource {
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
      guard got > 0 else { throw .cutShort(place) }
      bytes += room[..<got]
    }
  }

  /// The error for a core that cannot be read in one pass.
  static let notInOrder = VMCheckpointError.invalidData(
    "cannot be read from a pipe: its headers, notes and RAM are not in order",
    hint: "put it into a file, and write elf:PATH"
  )
}
