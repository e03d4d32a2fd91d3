import CLinux
import Glibc
import SystemPackage

/// Which pages of a VM must not come from the snapshot any more, in memory that outlives the process.
///
///     OFFSET  SIZE  DESCRIPTION
///          0  2048  64 messages of the kernel, 32 bytes each; the first byte of an empty one is 0
///       4096     n  a bit for each unit: it was put in place, or removed
///
/// The memory is a file without a name, which the keeper of the server has as well. Messages are read straight into
/// it: the kernel forgets a message when it is read, and a process that is killed between reading "these pages are
/// gone" and noting it would leave the next one to bring old bytes back. So whoever goes on reads first what
/// is left there. It is right to note a removal twice, because a bit is never taken back.
///
/// Used by one thread at a time.
final class ServedPages {
  static let messageCapacity = 64
  private static let bitmapOffset = Page.byteCount

  let descriptor: Int32
  private let memory: UnsafeMutableRawBufferPointer

  /// Room for messages.
  var messages: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(
      rebasing: memory[..<(Self.messageCapacity * UserfaultEvent.byteCount)]
    )
  }

  /// - Parameter descriptor: The memory of a process that is gone, which becomes this object's; `nil`: new memory.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(unitCount: Int, adopting descriptor: Int32? = nil) throws(VMCheckpointError) {
    let byteCount = Self.bitmapOffset + (unitCount + 63) / 64 * 8
    let file = descriptor ?? clinux_memory_file("vmckpt-served-pages")
    guard file >= 0 else { throw Self.failure("make memory for the state of a VM") }
    guard ftruncate(file, off_t(byteCount)) == 0,
      let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
      address != MAP_FAILED
    else {
      let error = Self.failure("map memory for the state of a VM")
      close(file)
      throw error
    }
    self.descriptor = file
    memory = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
    // The kernel must never have to wait for a page to copy a message to.
    mlock(address, Self.bitmapOffset)
    if descriptor == nil { messages.initializeMemory(as: UInt8.self, repeating: 0) }
  }

  deinit {
    munmap(memory.baseAddress, memory.count)
    close(descriptor)
  }

  private static func failure(_ attempt: String) -> VMCheckpointError {
    let code = errno
    return VMCheckpointError(.outOfResources, "cannot \(attempt): \(Errno(rawValue: code))")
  }

  func isTaken(_ unit: Int) -> Bool {
    memory[Self.bitmapOffset + unit >> 3] >> UInt8(unit & 7) & 1 == 1
  }

  func take(_ unit: Int) {
    memory[Self.bitmapOffset + unit >> 3] |= 1 << UInt8(unit & 7)
  }

  /// The first unit of `range` that is not taken.
  func firstFree(in range: Range<Int>) -> Int? {
    var unit = range.lowerBound
    while unit < range.upperBound {
      // Eight at a time where all are taken.
      if unit & 7 == 0, memory[Self.bitmapOffset + unit >> 3] == 0xff {
        unit += 8
      } else if isTaken(unit) {
        unit += 1
      } else {
        return unit
      }
    }
    return nil
  }

  /// The first unit of `range` that is taken, or its end.
  func firstTaken(in range: Range<Int>) -> Int {
    range.first { isTaken($0) } ?? range.upperBound
  }
}
