import Glibc
import VMCheckpoint

/// The guest's RAM: a flat file that this process, and through it the vCPU, has mapped.
///
/// Being a file, the library can save it without a copy; being mapped, the overlays that the
/// manager lays over it are seen by the guest at once.
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

  /// Maps the file at `path`, which has room for `layout`: one region from GPA 0.
  init(path: String, layout: RAMLayout) throws {
    let byteCount = Int(layout.fileByteCount)
    let descriptor = open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw KVMError("open \(path)", errno) }
    defer { close(descriptor) }
    guard
      let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
      address != MAP_FAILED
    else { throw KVMError("map \(path)", errno) }
    self.path = path
    self.layout = layout
    bytes = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
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

  deinit { munmap(bytes.baseAddress!, bytes.count) }

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
