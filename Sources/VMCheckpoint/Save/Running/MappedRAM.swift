import CLinux
import Glibc
import Synchronization
import SystemPackage

/// The RAM files of a running guest in this process's memory, so that ``SettledPages`` compares pages where they
/// are. To copy each of them first takes 2.5 times as long, and the guest waits for it.
///
/// Only files in memory are mapped (tmpfs, and the memory files of `memfd_create`): for others, reading ahead
/// counts for more. Files of huge pages are not, since to read a hole of one takes one of the few that there are. To
/// read a hole of a file in memory makes a page there, and then the guest has more memory than before: so only pages
/// are read here that were not zero before. One that the guest has given back since then is made anew.
///
/// The kernel counts pages that were read to this process as well (`RssShmem`), though it has no copies.
///
/// To read a page that is not there any more fails by a signal; that is caught, see ``requireIntact(_:)``. So it is
/// where the file was cut, its file system is full, or memory or swap has failed.
final class MappedRAM: @unchecked Sendable {
  private struct Mapping {
    var device: dev_t
    var inode: ino_t
    var bytes: UnsafeRawBufferPointer
    /// Of ``clinux_guard_mapping``.
    var guardNumber: Int32
  }

  /// By the file's index; `nil` for files that are not mapped.
  private let mappings: [Mapping?]

  /// Maps what can be mapped of `files`. `nil` when nothing can.
  init?(_ files: OpenRAMFiles) {
    mappings = files.files.map { Self.map($0.descriptor.rawValue) }
    if mappings.allSatisfy({ $0 == nil }) { return nil }
  }

  deinit {
    for case let mapping? in mappings {
      clinux_unguard_mapping(mapping.guardNumber)
      munmap(UnsafeMutableRawPointer(mutating: mapping.bytes.baseAddress!), mapping.bytes.count)
    }
  }

  private static func map(_ descriptor: Int32) -> Mapping? {
    var status = stat()
    guard clinux_open_file_system_type(descriptor) == FileSystemType.memory,
      fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG
    else { return nil }
    let byteCount = Int(status.st_size) & ~(Page.byteCount - 1)
    guard byteCount > 0,
      let base = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else { return nil }
    let guardNumber = clinux_guard_mapping(base, byteCount)
    guard guardNumber >= 0 else {
      munmap(base, byteCount)
      return nil
    }
    return Mapping(
      device: status.st_dev,
      inode: status.st_ino,
      bytes: UnsafeRawBufferPointer(start: base, count: byteCount),
      guardNumber: guardNumber
    )
  }

  /// Whether these are the mapped files.
  func isOf(_ files: OpenRAMFiles) -> Bool {
    guard files.files.count == mappings.count else { return false }
    return zip(files.files, mappings).allSatisfy { file, mapping in
      guard let mapping else { return true }
      var status = stat()
      return fstat(file.descriptor.rawValue, &status) == 0 && status.st_dev == mapping.device
        && status.st_ino == mapping.inode
    }
  }

  /// The first of `pageCount` pages, aligned as pages are; `nil` when they are not mapped.
  func pages(at place: FileRAMReader.Place, count pageCount: Int) -> UnsafeRawPointer? {
    guard let mapping = mappings[place.fileIndex],
      place.fileOffset % UInt64(Page.byteCount) == 0,
      place.fileOffset + UInt64(pageCount * Page.byteCount) <= UInt64(mapping.bytes.count)
    else { return nil }
    return mapping.bytes.baseAddress! + Int(place.fileOffset)
  }

  /// Reads a byte of each page that `seen` has not seen as zero, so that the kernel has entered them all in this
  /// process's page tables when the guest is stopped: as much work as to compare them.
  ///
  /// - Parameter reader: Of RAM as it is now.
  func touch(
    _ seen: SeenPages,
    _ reader: FileRAMReader,
    threadCount: Int,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    let sum = Atomic<UInt64>(0)
    let windows = Mutex(
      try (0..<threadCount).map { _ throws(VMCheckpointError) in try RAMWindow() }
    )
    // What fails here fails again when RAM is compared, and is said then.
    let threads = try WorkerThreads(count: threadCount) { [self] in
      guard let window = windows.withLock({ $0.popLast() }) else { return }
      while !cancellation.isCancelled, let place = try? reader.claimWindow(window) {
        guard let pages = pages(at: place, count: window.pageCount),
          let first = seen.index(ofPFN: window.firstPFN)
        else { continue }
        var windowSum: UInt64 = 0
        for offset in 0..<window.pageCount where !seen.wasZero(at: first + offset) {
          windowSum += UInt64((pages + offset * Page.byteCount).load(as: UInt8.self))
        }
        sum.wrappingAdd(windowSum, ordering: .relaxed)
      }
    }
    threads.join()
    try cancellation.check()
  }

  /// Whether a page could not be read. Zeros were there instead, and that stays so.
  var isBroken: Bool {
    mappings.contains { mapping in
      mapping.map { clinux_is_mapping_broken($0.guardNumber) != 0 } ?? false
    }
  }

  /// Call after reading, before what was read is used.
  ///
  /// - Throws: ``VMCheckpointError`` when something was not read, and zeros were there instead.
  func requireIntact(_ reader: FileRAMReader) throws(VMCheckpointError) {
    for (file, mapping) in zip(reader.opened.files, mappings) {
      guard let mapping else { continue }
      var status = stat()
      // Behind its end the last page that a file has a part of is zeros, without a signal.
      guard fstat(file.descriptor.rawValue, &status) == 0,
        Int(status.st_size) >= mapping.bytes.count
      else { throw reader.shrank(file) }
      guard clinux_is_mapping_broken(mapping.guardNumber) == 0 else {
        throw VMCheckpointError(
          .inputOutput,
          "a page of RAM file \(quotedName(file.path)) could not be read",
          hint:
            "see whether its file system is full, whether the kernel's log tells of failed memory or swap, "
            + "or who cuts the file"
        )
      }
    }
  }
}
