import VMCheckpoint

/// Where the RAM of a Cloud Hypervisor snapshot is: the guest's memory regions, and where in `memory-ranges` each
/// page comes from. The ranges are in any order there; what touches in guest-physical addresses is one region.
struct CloudHypervisorLayout {
  let layout: RAMLayout
  let placement: RAMPlacement
  /// The size of `memory-ranges`.
  let fileByteCount: UInt64
  /// RAM that is not in `memory-ranges`.
  let missing: [CloudHypervisorState.Range]

  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(_ state: CloudHypervisorState) throws(VMCheckpointError) {
    guard !state.ranges.isEmpty else {
      throw .invalidData(
        "describes no RAM: memory_ranges is empty",
        hint: "RAM that has a file of its own is not in the snapshot: save that file"
      )
    }
    var offset: UInt64 = 0
    var pieces: [RAMPlacement.Piece] = []
    for range in state.ranges {
      pieces.append(
        .init(
          firstPFN: PFN(gpa: range.gpa).rawValue,
          pageCount: Page.count(inByteCount: range.byteCount),
          fileOffset: offset
        )
      )
      // Each is below 2⁵² and in memory, so 2¹¹ of them are too many before the sum is.
      offset += range.byteCount
      guard offset <= RAMLayout.gpaLimit else {
        throw .invalidData("describes more RAM than 52-bit physical addresses have")
      }
    }
    pieces.sort { $0.firstPFN < $1.firstPFN }
    for (lower, upper) in zip(pieces, pieces.dropFirst()) where lower.endPFN > upper.firstPFN {
      throw .invalidData(
        "has memory ranges that overlap at GPA \(hexString(PFN(unchecked: upper.firstPFN).gpa))"
      )
    }
    fileByteCount = offset
    placement = RAMPlacement(pieces: pieces)
    let union = Self.union(state.ranges)
    layout = try Self.layout(union)
    missing = state.mappings.flatMap { Self.rest(of: $0, without: union) }
  }

  private static func layout(
    _ ranges: [CloudHypervisorState.Range]
  ) throws(VMCheckpointError) -> RAMLayout {
    var offset: UInt64 = 0
    var regions: [MemoryRegion] = []
    for range in ranges {
      regions.append(.ram(gpa: range.gpa, byteCount: range.byteCount, fileOffset: offset))
      offset += range.byteCount
    }
    do throws(VMCheckpointError) {
      return try RAMLayout(regions: regions)
    } catch {
      throw .invalidData("is damaged: \(error.message)")
    }
  }

  /// The ranges in ascending order, those that touch joined.
  private static func union(
    _ ranges: [CloudHypervisorState.Range]
  ) -> [CloudHypervisorState.Range] {
    var result: [CloudHypervisorState.Range] = []
    for range in ranges.sorted(by: { $0.gpa < $1.gpa }) {
      if let last = result.last, last.endGPA == range.gpa {
        result[result.count - 1].byteCount += range.byteCount
      } else {
        result.append(range)
      }
    }
    return result
  }

  /// What of `range` no range of `others`, which are ascending and apart, holds.
  private static func rest(
    of range: CloudHypervisorState.Range,
    without others: [CloudHypervisorState.Range]
  ) -> [CloudHypervisorState.Range] {
    var rest: [CloudHypervisorState.Range] = []
    var next = range.gpa
    for other in others where other.endGPA > range.gpa && other.gpa < range.endGPA {
      if other.gpa > next { rest.append(.init(gpa: next, byteCount: other.gpa - next)) }
      next = max(next, other.endGPA)
    }
    if next < range.endGPA { rest.append(.init(gpa: next, byteCount: range.endGPA - next)) }
    return rest
  }
}
