import CKVM
import Glibc
import VMCheckpoint

/// The guest's RAM: a flat file that this process, and through it the vCPU, has mapped.
///
/// Being a file, the library can save it without a copy; being mapped, the overlays that the
/// manager lays over it are seen by the guest at once.
///
/// Or it is a file in memory, empty at first, whose pages `vmckpt serve` puts in place when the guest, or this
/// process, touches them.
///
/// Unchecked, because guest, VMM and overlay manager share the memory by design. The VMM touches
/// it only while the vCPU is stopped, and there is one thread.
final class MappedRAM: GuestMemory, @unchecked Sendable {
  /// The file's path.
  let path: String

  /// Which GPAs it holds.
  let layout: RAMLayout

  /// The mapping, for the lifetime of this object. Its first byte is at GPA 0.
  let bytes: UnsafeMutableRawBufferPointer

  /// What keeps a page server at work; `nil` when all of RAM is in the file.
  private let served: ServedMemory?

  /// For RAM that is served: its file has no other name.
  private let descriptor: Int32

  /// Maps the file at `path`, which has room for `layout`: one region from GPA 0.
  init(path: String, layout: RAMLayout) throws {
    let byteCount = Int(layout.fileByteCount)
    let descriptor = open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw KVMError("open \(path)", errno) }
    defer { close(descriptor) }
    self.path = path
    self.layout = layout
    bytes = try Self.map(descriptor, byteCount, path)
    served = nil
    self.descriptor = -1
  }

  /// Maps a new file in memory for `layout`, whose pages are those of the page server at `socketPath`.
  init(servedAt socketPath: String, layout: RAMLayout) throws {
    let byteCount = Int(layout.fileByteCount)
    descriptor = ckvm_memory_file()
    guard descriptor >= 0, ftruncate(descriptor, off_t(byteCount)) == 0 else {
      throw KVMError("make a file in memory", errno)
    }
    self.layout = layout
    path = "/proc/self/fd/\(descriptor)"
    let bytes = try Self.map(descriptor, byteCount, path)
    self.bytes = bytes
    let parts = layout.regions.map { region in
      ServedMemory.Part(
        memory: UnsafeMutableRawBufferPointer(
          rebasing: bytes[Int(region.fileOffset)...].prefix(Int(region.byteCount))
        ),
        fileOffset: region.fileOffset
      )
    }
    served = try ServedMemory(parts, socketPath: socketPath)
  }

  private static func map(
    _ descriptor: Int32,
    _ byteCount: Int,
    _ path: String
  ) throws -> UnsafeMutableRawBufferPointer {
    guard
      let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
      address != MAP_FAILED
    else { throw KVMError("map \(path)", errno) }
    return UnsafeMutableRawBufferPointer(start: address, count: byteCount)
  }

  /// Touches every page, so that the file holds all of RAM: who reads the file itself waits for no server, and
  /// would find zeros.
  func complete() {
    guard served != nil else { return }
    var sum: UInt8 = 0
    for offset in stride(from: 0, to: bytes.count, by: Page.byteCount) { sum ^= bytes[offset] }
    withExtendedLifetime(sum) {}
  }

  /// Makes the file at `path`, of zeros, and maps it.
  convenience init(creating path: String, byteCount: Int) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw KVMError("create \(path)", errno) }
    defer { close(descriptor) }
    guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
      throw KVMError("size \(path)", errno)
    }
    try self.init(path: path, layout: RAMLayout(contiguousByteCount: UInt64(byteCount)))
  }

  deinit {
    munmap(bytes.baseAddress!, bytes.count)
    if descriptor >= 0 { close(descriptor) }
  }

  func write(_ source: [UInt8], at gpa: UInt64) {
    source.withUnsafeBytes { bytes[Int(gpa)...].copyBytes(from: $0) }
  }

  // MARK: GuestMemory

  func contains(_ pfn: PFN) -> Bool { layout.contains(pfn) }

  func readPage(at pfn: PFN, into buffer: UnsafeMutableRawBufferPointer) {
    buffer.copyMemory(from: UnsafeRawBufferPointer(page(pfn)))
  }

  func writePage(at pfn: PFN, from buffer: UnsafeRawBufferPointer) {
    page(pfn).copyMemory(from: buffer)
  }

  private func page(_ pfn: PFN) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: bytes[Int(pfn.gpa)..<Int(pfn.gpa) + Page.byteCount])
  }
}
