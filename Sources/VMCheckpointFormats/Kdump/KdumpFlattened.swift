import Glibc
import SystemPackage
import VMCheckpoint

/// A kdump in the form in which it can be written to a pipe: pieces of a file, each with its place.
///
///     header   4096 bytes: `makedumpfile` in 16 bytes, i64 type 1, i64 version 1
///     a piece  i64 offset, i64 how many bytes, the bytes; at the end −1 and −1
///
/// Numbers are big-endian. Pieces are in any order, and a later one counts where two overlap.
/// Sources: makedumpfile `IMPLEMENTATION` and `makedumpfile.h` (`struct makedumpfile_header`).
enum KdumpFlattened {
  static let magic = Array("makedumpfile\0\0\0\0".utf8)
  private static let headerByteCount = 4096
  /// 8 TiB: no file system of a dump has larger files in practice, and some cannot.
  private static let maximumFileByteCount: UInt64 = 8 << 40
  /// Writers go on at a few places: in the bitmaps, the descriptors and the pages.
  private static let maximumRunCount = 1 << 16

  /// Puts the file together from a stream, at whose beginning `input` is.
  ///
  /// - Parameter directory: Where the file is made, without a name.
  /// - Returns: The file, which becomes the caller's.
  /// - Throws: ``VMCheckpointError``, whose message goes on after the dump's name when its code is
  ///   `invalidData`.
  static func assemble(
    _ input: DumpInput,
    in directory: String
  ) throws(VMCheckpointError) -> DumpFile {
    let header = try input.read(byteCount: headerByteCount, place: "in its flattened header")
    guard header.starts(with: magic) else {
      throw .invalidData("does not begin like a flattened kdump")
    }
    let (type, version) = (header.bigEndian(at: 16), header.bigEndian(at: 24))
    guard type == 1, version == 1 else {
      throw .invalidData(
        "is flattened in type \(type), version \(version), and only 1 and 1 is read"
      )
    }
    var written = RangeSet<UInt64>()
    let file = try KdumpSpool.write(in: directory) { spool throws(VMCheckpointError) in
      var number = 0
      while true {
        number += 1
        let place = "in flattened piece \(number)"
        let head = try input.read(byteCount: 16, place: place)
        let (offset, byteCount) = (head.bigEndian(at: 0), head.bigEndian(at: 8))
        if offset == -1, byteCount == -1 { return }
        guard offset >= 0, byteCount > 0,
          UInt64(offset) <= maximumFileByteCount,
          UInt64(byteCount) <= maximumFileByteCount - UInt64(offset)
        else {
          throw .invalidData(
            "is damaged: flattened piece \(number) has \(byteCount) bytes at offset \(offset)"
          )
        }
        var done: UInt64 = 0
        while done < UInt64(byteCount) {
          let count = min(UInt64(byteCount) - done, UInt64(DumpInput.maximumPieceByteCount))
          try input.withBytes(count: Int(count), place: place) { bytes throws(VMCheckpointError) in
            try spool.write(bytes, at: UInt64(offset) + done)
          }
          done += count
        }
        written.insert(contentsOf: UInt64(offset)..<(UInt64(offset) + UInt64(byteCount)))
        guard written.ranges.count <= maximumRunCount else {
          throw .invalidData(
            "is flattened into pieces in more than \(maximumRunCount) places, which are too many"
          )
        }
      }
    }
    let gaps = RangeSet(0..<(file.byteCount ?? 0)).subtracting(written)
    return DumpFile(
      descriptor: file.descriptor,
      byteCount: file.byteCount,
      gaps: Array(gaps.ranges)
    )
  }
}

/// A dump that is put down in a temporary file, since it is read at random.
struct KdumpSpool {
  private let descriptor: FileDescriptor
  private let directory: String

  /// Makes a file that `body` writes.
  ///
  /// - Returns: The file, which becomes the caller's.
  static func write(
    in directory: String,
    _ body: (KdumpSpool) throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) -> DumpFile {
    let descriptor = try SpoolFile.make(in: directory)
    do throws(VMCheckpointError) {
      try body(KdumpSpool(descriptor: descriptor, directory: directory))
      var status = stat()
      guard fstat(descriptor.rawValue, &status) == 0 else {
        throw SpoolFile.failure("examine", in: directory, Errno(rawValue: errno), thing: "the dump")
      }
      return DumpFile(descriptor: descriptor, byteCount: UInt64(status.st_size))
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  /// Puts down a dump that is not flattened.
  static func copy(_ input: DumpInput, in directory: String) throws(VMCheckpointError) -> DumpFile {
    try write(in: directory) { spool throws(VMCheckpointError) in
      while try !input.isAtEnd() {
        let offset = input.offset
        try input.withAvailableBytes { bytes throws(VMCheckpointError) in
          try spool.write(bytes, at: offset)
        }
      }
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(VMCheckpointError) {
    do throws(Errno) {
      try FileIO.write(bytes, to: descriptor, at: offset)
    } catch {
      throw SpoolFile.failure("write", in: directory, error, thing: "the dump")
    }
  }
}

extension [UInt8] {
  /// The number whose first byte is at `offset`, its highest byte first.
  fileprivate func bigEndian(at offset: Int) -> Int64 {
    littleEndian(at: offset, as: Int64.self).byteSwapped
  }
}
