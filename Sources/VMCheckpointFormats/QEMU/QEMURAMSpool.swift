import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// The pages of a migration stream on their way to the store, in a sparse temporary file without a
/// name: a stream sends pages in any order, and some of them several times.
///
/// The file has mode 0600 and is gone with the process, however that ends.
final class QEMURAMSpool: QEMURAMPages {
  /// Pages that follow each other are written together, up to this size.
  private static let runByteCount = 256 << 10

  let descriptor: FileDescriptor
  private let directory: String
  private let run: UnsafeMutableRawBufferPointer
  private var runOffset: UInt64 = 0
  private var runLength = 0
  /// A bit a page: whether the stream has sent it, and whether the file has bytes there.
  private var sent: [UInt64]
  private var written: [UInt64]

  /// Makes a spool of `byteCount` bytes, all zero, in `directory`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate` or `permissionDenied`.
  init(byteCount: UInt64, directory: String) throws(VMCheckpointError) {
    self.directory = directory
    descriptor = try SpoolFile.make(in: directory)
    guard ftruncate(descriptor.rawValue, off_t(byteCount)) == 0 else {
      let code = Errno(rawValue: errno)
      try? descriptor.close()
      throw VMCheckpointError(
        .cannotCreate,
        "cannot make a temporary file of \(byteCount) bytes in \(quotedName(directory)): \(code)"
      )
    }
    let wordCount = Int((Page.count(inByteCount: byteCount) + 63) / 64)
    sent = Array(repeating: 0, count: wordCount)
    written = Array(repeating: 0, count: wordCount)
    do throws(VMCheckpointError) {
      run = try LargeMemory.allocate(byteCount: Self.runByteCount)
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  deinit {
    LargeMemory.free(run)
    try? descriptor.close()
  }

  func write(
    _ page: UnsafeRawBufferPointer,
    at offset: UInt64,
    from source: UInt64?
  ) throws(VMCheckpointError) {
    mark(offset, isZero: false)
    if runLength == Self.runByteCount || offset != runOffset + UInt64(runLength) {
      try flush()
      runOffset = offset
    }
    UnsafeMutableRawBufferPointer(rebasing: run[runLength...]).copyMemory(from: page)
    runLength += Page.byteCount
  }

  /// Nothing is written, unless the page held something before.
  func writeZero(at offset: UInt64) throws(VMCheckpointError) {
    let index = Int(offset >> UInt64(Page.shift))
    let wasWritten = written[index >> 6] & (1 << UInt64(index & 63)) != 0
    mark(offset, isZero: true)
    guard wasWritten else { return }
    try flush()
    let status = clinux_punch_hole(descriptor.rawValue, offset, UInt64(Page.byteCount))
    guard status == 0 || errno == EOPNOTSUPP else {
      throw failure("write", Errno(rawValue: errno))
    }
    if status != 0 {
      // Not every file system has holes: then zeros take their place.
      run.initializeMemory(as: UInt8.self, repeating: 0)
      runOffset = offset
      runLength = Page.byteCount
      try flush()
    }
  }

  func flush() throws(VMCheckpointError) {
    do throws(Errno) {
      let bytes = UnsafeRawBufferPointer(rebasing: run[..<runLength])
      try FileIO.write(bytes, to: descriptor, at: runOffset)
    } catch {
      throw failure("write", error)
    }
    runLength = 0
  }

  func sentPageCount(of block: QEMURAMBlock) -> UInt64 {
    block.pageIndices.reduce(0) { $0 + (sent[$1 >> 6] >> UInt64($1 & 63)) & 1 }
  }

  func isSent(at offset: UInt64) -> Bool {
    let index = Int(offset >> UInt64(Page.shift))
    return sent[index >> 6] & (1 << UInt64(index & 63)) != 0
  }

  func hasBytes(at offset: UInt64) -> Bool {
    let index = Int(offset >> UInt64(Page.shift))
    return written[index >> 6] & (1 << UInt64(index & 63)) != 0
  }

  func read(into page: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(VMCheckpointError) {
    let count: Int
    do throws(Errno) {
      count = try FileIO.read(into: page, from: descriptor, at: offset)
    } catch {
      throw failure("read", error)
    }
    guard count == page.count else { throw failure("read", .ioError) }
  }

  /// Where another opening of the file is to be had, as long as this object lives.
  var path: String { "/proc/self/fd/\(descriptor.rawValue)" }

  private func mark(_ offset: UInt64, isZero: Bool) {
    let index = Int(offset >> UInt64(Page.shift))
    let bit: UInt64 = 1 << UInt64(index & 63)
    sent[index >> 6] |= bit
    if isZero { written[index >> 6] &= ~bit } else { written[index >> 6] |= bit }
  }

  private func failure(_ verb: String, _ error: Errno) -> VMCheckpointError {
    SpoolFile.failure(verb, in: directory, error, thing: "the guest's RAM")
  }
}
