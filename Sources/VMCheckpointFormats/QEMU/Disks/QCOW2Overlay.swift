import Glibc
import SystemPackage
import VMCheckpoint

/// An empty qcow2 image that is based on another: what `qemu-img create -f qcow2 -b BASE -F FORMAT` makes, which is
/// not installed wherever QEMU is. (QEMU `docs/interop/qcow2.txt`.)
///
/// ```
/// cluster 0   header, with the base's format and path
/// cluster 1   refcount table, of one entry
/// cluster 2   refcount block: each cluster of the image is used once
/// from 3 on   L1 table, all zeros: everything is the base's
/// ```
struct QCOW2Overlay {
  var virtualByteCount: UInt64
  /// Absolute.
  var basePath: String
  var baseFormat: String

  private static let clusterBits: UInt32 = 16
  private static let clusterByteCount: UInt64 = 1 << clusterBits
  /// An entry of the L1 table is a cluster of 8192 entries, each for a cluster.
  private static let entryByteCount = clusterByteCount * clusterByteCount / 8
  /// The format's own limit.
  private static let maximumPathByteCount = 1023

  /// Writes a new file with mode 0600.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when the base's path is too long, `cannotCreate`,
  ///   `inputOutput`. No file is left then.
  func write(to path: String) throws(VMCheckpointError) {
    guard basePath.utf8.count <= Self.maximumPathByteCount else {
      throw VMCheckpointError(
        .invalidArgument,
        "the path of the disk \(quotedName(basePath)) is too long for the base of an overlay",
        hint: "a path may have \(Self.maximumPathByteCount) bytes; move the disk"
      )
    }
    let descriptor: FileDescriptor
    do {
      descriptor = try FileDescriptor.open(
        FilePath(path),
        .readWrite,
        options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: [.ownerReadWrite]
      )
    } catch {
      throw VMCheckpointError(
        .cannotCreate,
        "cannot create the overlay \(quotedName(path)): \((error as? Errno) ?? .ioError)"
      )
    }
    defer { try? descriptor.close() }
    do throws(Errno) {
      for (offset, bytes) in parts {
        let result = bytes.withUnsafeBytes { buffer in
          Result { () throws(Errno) in try FileIO.write(buffer, to: descriptor, at: offset) }
        }
        try result.get()
      }
      guard ftruncate(descriptor.rawValue, off_t(clusterCount * Self.clusterByteCount)) == 0 else {
        throw Errno(rawValue: errno)
      }
    } catch {
      unlink(path)
      throw VMCheckpointError(
        .inputOutput,
        "cannot write the overlay \(quotedName(path)): \(error)"
      )
    }
  }

  private var l1EntryCount: UInt64 {
    max(1, (virtualByteCount + Self.entryByteCount - 1) / Self.entryByteCount)
  }

  private var clusterCount: UInt64 {
    3 + (l1EntryCount * 8 + Self.clusterByteCount - 1) / Self.clusterByteCount
  }

  /// What is not zero of the file.
  private var parts: [(offset: UInt64, bytes: [UInt8])] {
    var table: [UInt8] = []
    table.appendBigEndian(2 * Self.clusterByteCount)
    var block: [UInt8] = []
    for _ in 0..<clusterCount { block.appendBigEndian(UInt16(1)) }
    return [(0, header), (Self.clusterByteCount, table), (2 * Self.clusterByteCount, block)]
  }

  private var header: [UInt8] {
    let format = Array((baseFormat == "file" ? "raw" : baseFormat).utf8)
    let paddingByteCount = (8 - format.count % 8) % 8
    let headerByteCount = 104
    // Behind the header, the base's format, and the mark that ends what may follow.
    let pathOffset = headerByteCount + 8 + format.count + paddingByteCount + 8
    var bytes: [UInt8] = Array("QFI".utf8) + [0xfb]
    bytes.appendBigEndian(UInt32(3))
    bytes.appendBigEndian(UInt64(pathOffset))
    bytes.appendBigEndian(UInt32(basePath.utf8.count))
    bytes.appendBigEndian(Self.clusterBits)
    // In whole sectors, as QEMU counts a raw base.
    bytes.appendBigEndian((virtualByteCount + 511) / 512 * 512)
    // Not encrypted.
    bytes.appendBigEndian(UInt32(0))
    bytes.appendBigEndian(UInt32(l1EntryCount))
    bytes.appendBigEndian(3 * Self.clusterByteCount)
    bytes.appendBigEndian(Self.clusterByteCount)
    bytes.appendBigEndian(UInt32(1))
    // No snapshots, and where they are; no features: incompatible, compatible, to be cleared.
    bytes.appendBigEndian(UInt32(0))
    for _ in 0..<4 { bytes.appendBigEndian(UInt64(0)) }
    // Refcounts of 1 << 4 bits.
    bytes.appendBigEndian(UInt32(4))
    bytes.appendBigEndian(UInt32(headerByteCount))
    bytes.appendBigEndian(UInt32(0xe279_2aca))
    bytes.appendBigEndian(UInt32(format.count))
    bytes += format + [UInt8](repeating: 0, count: paddingByteCount)
    bytes.appendBigEndian(UInt64(0))
    return bytes + Array(basePath.utf8)
  }
}
