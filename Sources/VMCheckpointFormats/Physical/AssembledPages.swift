import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// The pages of a dump that are put together from several places of it, in a file in memory. Behind them it has
/// a hole, which is where pages that are zero come from.
enum AssembledPages {
  /// - Parameter file: The dump.
  /// - Returns: The file, which becomes the caller's.
  /// - Throws: ``VMCheckpointError``, whose message goes on after the dump's name.
  static func make(
    _ map: LoadMap,
    from file: DumpFile
  ) throws(VMCheckpointError) -> FileDescriptor {
    let opened = clinux_memory_file("vmckpt-dump")
    guard opened >= 0 else { throw failure(Errno(rawValue: errno)) }
    let descriptor = FileDescriptor(rawValue: opened)
    do throws(VMCheckpointError) {
      guard ftruncate(opened, off_t(map.assembledFileByteCount)) == 0 else {
        throw failure(Errno(rawValue: errno))
      }
      for fragment in map.fragments {
        let bytes = try file.read(
          at: fragment.fileOffset,
          byteCount: fragment.byteCount,
          place: "in its RAM"
        )
        let offset = UInt64(fragment.pageIndex * Page.byteCount + fragment.pageOffset)
        let result = bytes.withUnsafeBytes { buffer in
          Result { () throws(Errno) in try FileIO.write(buffer, to: descriptor, at: offset) }
        }
        if case .failure(let error) = result { throw failure(error) }
      }
      return descriptor
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  private static func failure(_ error: Errno) -> VMCheckpointError {
    VMCheckpointError(
      .outOfResources,
      "cannot be read: no memory for its pages that are not whole: \(error)"
    )
  }
}
