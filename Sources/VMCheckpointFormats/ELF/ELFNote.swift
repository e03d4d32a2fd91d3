import VMCheckpoint

/// A note of an ELF core.
///
/// Source: the System V gABI, chapter 5, "Note Section": a name's length with its NUL, the contents' length and
/// a type, each of 4 bytes; then name and contents, each padded to the segment's alignment.
struct ELFNote: Hashable {
  static let headerByteCount = 12

  /// Without the NUL at its end.
  var name: [UInt8]
  var type: UInt32
  var contents: ArraySlice<UInt8>

  func isNamed(_ text: String) -> Bool { name.elementsEqual(text.utf8) }

  /// Takes the notes of a segment apart.
  ///
  /// - Parameter alignment: 4 or 8. By the gABI a 64-bit file's notes have 8, but almost all have 4.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  static func all(
    in bytes: [UInt8],
    alignment: Int
  ) throws(VMCheckpointError) -> [ELFNote] {
    func aligned(_ offset: Int) -> Int { (offset + alignment - 1) / alignment * alignment }
    var notes: [ELFNote] = []
    var offset = 0
    while offset < bytes.count {
      guard bytes.count - offset >= headerByteCount else {
        // Padding at the segment's end.
        if bytes[offset...].allSatisfy({ $0 == 0 }) { break }
        throw damaged(notes.count, "has no room for its header")
      }
      let nameByteCount = Int(bytes.littleEndian(at: offset, as: UInt32.self))
      let byteCount = Int(bytes.littleEndian(at: offset + 4, as: UInt32.self))
      let nameOffset = offset + headerByteCount
      guard nameByteCount <= bytes.count - nameOffset else {
        throw damaged(notes.count, "has a name of \(nameByteCount) bytes, which ends behind them")
      }
      let start = aligned(nameOffset + nameByteCount)
      // The last one may lack its padding.
      guard start <= bytes.count || byteCount == 0, byteCount <= max(0, bytes.count - start) else {
        throw damaged(notes.count, "has \(byteCount) bytes, which end behind them")
      }
      notes.append(
        ELFNote(
          name: Array(bytes[nameOffset..<(nameOffset + nameByteCount)].prefix { $0 != 0 }),
          type: bytes.littleEndian(at: offset + 8, as: UInt32.self),
          contents: byteCount == 0 ? [] : bytes[start..<(start + byteCount)]
        )
      )
      offset = aligned(start + byteCount)
    }
    return notes
  }

  /// Appends the note to a segment's bytes.
  func append(to bytes: inout [UInt8], alignment: Int = 4) {
    bytes.pad(to: alignment)
    bytes.appendLittleEndian(UInt32(name.count + 1))
    bytes.appendLittleEndian(UInt32(contents.count))
    bytes.appendLittleEndian(type)
    bytes += name
    bytes.append(0)
    bytes.pad(to: alignment)
    bytes += contents
    bytes.pad(to: alignment)
  }

  private static func damaged(_ index: Int, _ problem: String) -> VMCheckpointError {
    .invalidData("has damaged notes: note \(index) \(problem)")
  }
}
