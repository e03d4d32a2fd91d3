/// Part of a guest's memory in a dump: a range of physical addresses, and where in the file its bytes are.
struct MemoryLoad: Hashable {
  /// The guest-physical address of the first byte.
  var gpa: UInt64
  var fileOffset: UInt64
  /// How many bytes the file has; the rest of the load is zero.
  var fileByteCount: UInt64
  var memoryByteCount: UInt64

  var endGPA: UInt64 { gpa + memoryByteCount }
  var endFileOffset: UInt64 { fileOffset + fileByteCount }
}
