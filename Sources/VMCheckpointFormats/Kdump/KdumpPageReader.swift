import SystemPackage
import VMCheckpoint

/// Reads pages of a kdump, one after the other. Handed from thread to thread; its holder uses it alone.
final class KdumpPageReader: @unchecked Sendable {
  /// The data of consecutive pages is mostly in one run of the file: it is read together.
  private static let bufferByteCount = 256 << 10

  private let dump: KdumpFile
  private let decompressor = PageDecompressor()
  private let buffer: UnsafeMutableRawBufferPointer
  /// What of the file is in the buffer.
  private var buffered: Range<UInt64> = 0..<0
  /// Where the zero page is that many descriptors share.
  private var zeroOffset: UInt64?
  private var descriptors: [UInt8] = []
  private var firstDescriptor: UInt64 = 0
  private var next = 0

  init(_ dump: KdumpFile) throws(VMCheckpointError) {
    self.dump = dump
    buffer = try LargeMemory.allocate(byteCount: Self.bufferByteCount)
  }

  deinit { LargeMemory.free(buffer) }

  /// Reads the descriptors of the next pages.
  func begin(_ first: UInt64, count: Int) throws(VMCheckpointError) {
    let size = KdumpPageDescriptor.byteCount
    descriptors = try dump.file.read(
      at: dump.header.descriptorOffset + first * UInt64(size),
      byteCount: count * size,
      place: "in its page descriptors"
    )
    firstDescriptor = first
    next = 0
  }

  /// Reads the page of the next descriptor.
  func readNext(
    _ pfn: UInt64,
    into page: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) {
    let descriptor = try KdumpPageDescriptor(
      descriptors,
      next,
      number: firstDescriptor + UInt64(next),
      in: dump.file
    )
    next += 1
    let method: PageDecompressor.Method
    switch descriptor.method {
    case .none:
      if descriptor.offset == zeroOffset {
        page.initializeMemory(as: UInt8.self, repeating: 0)
        return
      }
      page.copyMemory(from: try data(descriptor, pfn))
      if ZeroPage.isZero(page.baseAddress!) { zeroOffset = descriptor.offset }
      return
    case .zlib: method = .zlib
    case .lzo: method = .lzo
    case .snappy: method = .snappy
    case .zstd: method = .zstd
    }
    guard try decompressor.decompress(data(descriptor, pfn), method, into: page) else {
      throw .invalidData(
        "is damaged: the \(descriptor.method.name) data of the page at GPA "
          + "\(hexString(pfn << UInt64(Page.shift))) cannot be decompressed to 4096 bytes"
      )
    }
  }

  /// The data of a page, which is valid until the next call.
  private func data(
    _ descriptor: KdumpPageDescriptor,
    _ pfn: UInt64
  ) throws(VMCheckpointError) -> UnsafeRawBufferPointer {
    let end = descriptor.offset + UInt64(descriptor.byteCount)
    if !buffered.contains(descriptor.offset) || end > buffered.upperBound {
      // Ahead only where pages follow each other: others may be anywhere.
      let follows = descriptor.offset == buffered.upperBound || buffered.contains(descriptor.offset)
      try fill(descriptor.offset, byteCount: follows || buffered.isEmpty ? buffer.count : 64 << 10)
      guard end <= buffered.upperBound else {
        throw VMCheckpointError(
          .inputOutput,
          "\(dump.name) shrank while it was being saved",
          hint: "save a copy of the file"
        )
      }
    }
    let start = Int(descriptor.offset - buffered.lowerBound)
    return UnsafeRawBufferPointer(rebasing: buffer[start..<(start + descriptor.byteCount)])
  }

  private func fill(_ offset: UInt64, byteCount: Int) throws(VMCheckpointError) {
    buffered = 0..<0
    do throws(Errno) {
      let count = try FileIO.read(
        into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<byteCount]),
        from: dump.file.descriptor,
        at: offset
      )
      buffered = offset..<(offset + UInt64(count))
    } catch {
      throw VMCheckpointError(.inputOutput, "\(dump.name) cannot be read: \(error)")
    }
  }
}
