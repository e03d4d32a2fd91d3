import CLinux
import Glibc
import SystemPackage

/// The parts of a RAM file that no memory region describes.
///
/// They are not saved, and a restore gives zeros back in their place. So they must be zero, as the
/// hole below 4 GiB is in a file whose offsets are addresses; else a region was forgotten.
enum UndescribedBytes {
  private static let blockByteCount = 1 << 20

  /// Checks that every byte of the file outside the regions of `layout` is zero. Holes are skipped.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` that says where one is not.
  static func requireZero(
    in descriptor: FileDescriptor,
    layout: RAMLayout,
    name: String
  ) throws(VMCheckpointError) {
    var offset: UInt64 = 0
    for region in layout.regions.sorted(by: { $0.fileOffset < $1.fileOffset }) {
      if region.fileOffset > offset {
        try requireZero(in: descriptor, from: offset, to: region.fileOffset, name: name)
      }
      offset = region.endFileOffset
    }
  }

  private static func requireZero(
    in descriptor: FileDescriptor,
    from start: UInt64,
    to end: UInt64,
    name: String
  ) throws(VMCheckpointError) {
    let block = try LargeMemory.allocate(byteCount: blockByteCount)
    defer { LargeMemory.free(block) }
    var offset = start
    while offset < end {
      let data = lseek(descriptor.rawValue, off_t(offset), clinux_seek_data)
      // ENXIO: nothing but a hole follows. Any other error: a file system that knows no holes.
      if data < 0, errno == ENXIO { return }
      offset = max(offset, UInt64(max(0, data)))
      guard offset < end else { return }
      let rest = UnsafeMutableRawBufferPointer(
        rebasing: block[..<Int(min(end - offset, UInt64(block.count)))]
      )
      let count: Int
      do throws(Errno) {
        count = try FileIO.read(into: rest, from: descriptor, at: offset)
      } catch {
        throw failure("\(error)", name: name, at: offset)
      }
      guard count > 0 else { throw failure("it ends there", name: name, at: offset) }
      if let index = block[..<count].firstIndex(where: { $0 != 0 }) {
        throw .invalidData(
          "RAM file \(name) has data at offset \(hexString(offset + UInt64(index))), which no "
            + "memory region describes",
          hint: "give a --region for it: what is in no region is not saved"
        )
      }
      offset += UInt64(count)
    }
  }

  private static func failure(
    _ reason: String,
    name: String,
    at offset: UInt64
  ) -> VMCheckpointError {
    VMCheckpointError(
      .inputOutput,
      "cannot read RAM file \(name) at offset \(hexString(offset)): \(reason)"
    )
  }
}
