import Glibc

/// Memory for buffers of pages, tables and whatever else may be large.
///
/// Swift's own `allocate` ends the process where there is no memory. The buffers here are most of what
/// the product uses, and so they are what fails first under a limit such as `ulimit -v`.
package enum LargeMemory {
  /// Allocates uninitialized memory; ``free(_:)`` gives it back.
  ///
  /// - Parameter alignment: A power of two that is at least a pointer's size.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package static func allocate(
    byteCount: Int,
    alignment: Int = Page.byteCount
  ) throws(VMCheckpointError) -> UnsafeMutableRawBufferPointer {
    var pointer: UnsafeMutableRawPointer?
    guard posix_memalign(&pointer, alignment, byteCount) == 0, let pointer else {
      throw .outOfMemory(byteCount: byteCount)
    }
    return UnsafeMutableRawBufferPointer(start: pointer, count: byteCount)
  }

  /// Allocates zeros, which take memory only once they are written; ``free(_:)`` gives them back. Aligned to 16
  /// bytes.
  ///
  /// - Throws: As ``allocate(byteCount:alignment:)``.
  package static func allocateZeroed(
    byteCount: Int
  ) throws(VMCheckpointError) -> UnsafeMutableRawBufferPointer {
    guard let pointer = calloc(max(1, byteCount), 1) else {
      throw .outOfMemory(byteCount: byteCount)
    }
    return UnsafeMutableRawBufferPointer(start: pointer, count: byteCount)
  }

  /// Allocates `count` values that are all `value`; ``free(_:)`` gives them back.
  ///
  /// - Throws: As ``allocate(byteCount:alignment:)``.
  package static func allocate<Value: BitwiseCopyable>(
    _ count: Int,
    of value: Value
  ) throws(VMCheckpointError) -> UnsafeMutableBufferPointer<Value> {
    let (byteCount, isTooLarge) = count.multipliedReportingOverflow(by: MemoryLayout<Value>.stride)
    guard !isTooLarge else { throw .outOfMemory(byteCount: .max) }
    let memory = try allocate(byteCount: byteCount, alignment: 64)
    let values = memory.bindMemory(to: Value.self)
    values.initialize(repeating: value)
    return values
  }

  /// Checks that `byteCount` bytes can be had, for what an array or a `Data` is about to take: these
  /// end the process where there is no memory. Other threads may take it in between.
  ///
  /// - Throws: As ``allocate(byteCount:alignment:)``.
  package static func require(byteCount: Int) throws(VMCheckpointError) {
    free(try allocate(byteCount: max(1, byteCount)))
  }

  /// Gives back what ``allocate(byteCount:alignment:)`` gave.
  package static func free(_ memory: UnsafeMutableRawBufferPointer) {
    Glibc.free(memory.baseAddress)
  }

  /// Gives back what ``allocate(_:of:)`` gave.
  package static func free<Value: BitwiseCopyable>(_ memory: UnsafeMutableBufferPointer<Value>) {
    Glibc.free(memory.baseAddress)
  }
}

extension VMCheckpointError {
  /// What helps against too little memory.
  package static let memoryHint =
    "raise the limit on memory (ulimit -v, or the container's), or use fewer --threads"

  /// `byteCount` bytes of memory could not be had.
  package static func outOfMemory(byteCount: Int) -> VMCheckpointError {
    VMCheckpointError(
      .outOfResources,
      "out of memory: cannot get \(byteCount) bytes",
      hint: memoryHint
    )
  }
}
