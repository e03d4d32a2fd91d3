import VMCheckpoint

/// Part of a guest's memory in a dump: a range of physical addresses, and where in the file its bytes are.
struct MemoryLoad: Hashable {
  /// The guest-physical address of the first byte.
  var gpa: UInt64
  var fileOffset: UInt64
  /// How many bytes the file has. Whole pages of the rest are absent, and what else is missing is zero.
  var fileByteCount: UInt64
  var memoryByteCount: UInt64

  var endGPA: UInt64 { gpa + memoryByteCount }
  var endFileOffset: UInt64 { fileOffset + fileByteCount }

  /// Refuses loads that overlap, where nothing says which of them is right.
  ///
  /// - Parameters:
  ///   - noun: What they are called, as in "range".
  ///   - firstNumber: That of the first one.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  static func requireApart(
    _ loads: [MemoryLoad],
    noun: String,
    firstNumber: Int
  ) throws(VMCheckpointError) {
    let order = loads.indices.sorted { loads[$0].gpa < loads[$1].gpa }
    for (lower, upper) in zip(order, order.dropFirst()) where loads[lower].endGPA > loads[upper].gpa
    {
      throw .invalidData(
        "is damaged: \(noun) \(lower + firstNumber) and \(noun) \(upper + firstNumber) both hold GPA "
          + hexString(loads[upper].gpa)
      )
    }
  }
}
