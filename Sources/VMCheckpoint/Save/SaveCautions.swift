/// What a user should hear of a snapshot that is saved as was asked, and may not be what was meant.
///
/// Each of these happened to people: a pipe whose sender failed in the middle, two guests whose files have one
/// name, a sparse file whose holes mean "as before", and RAM above a hole that nobody described.
struct SaveCautions {
  /// 4 MiB: of fewer pages, shares say nothing.
  private static let minimumPageCount: UInt64 = 1024
  /// Most VMMs leave the addresses from 3 GiB, or a little above, to 4 GiB to devices.
  private static let holeStart: UInt64 = 3 << 30

  let request: SaveRequest
  let parent: SnapshotRow?
  let layout: RAMLayout
  let storedPageCount: UInt64
  let newPageCount: UInt64

  /// A line each.
  var lines: [String] {
    var lines: [String] = []
    if isFlat, case .contiguous = request.layout, layout.byteCount > Self.holeStart {
      lines.append(
        "RAM is more than 3 GiB, and was saved as one region from GPA 0; most VMMs leave a hole below 4 GiB, "
          + "and then GPAs above it are wrong: describe the regions"
      )
    }
    guard let parent else { return lines }
    let title = "its parent, \(parent.title)"
    if parent.ramByteCount != layout.byteCount {
      lines.append(
        "RAM has \(layout.byteCount) bytes, and that of \(title), \(parent.ramByteCount): is it the same VM, "
          + "and complete?"
      )
    } else if parent.storedPageCount >= Self.minimumPageCount,
      storedPageCount < parent.storedPageCount / 4
    {
      lines.append(
        "RAM has \(storedPageCount) pages that are not zero, and \(title), \(parent.storedPageCount): if "
          + "holes of the source mean that pages are as before, it is a diff, and must be saved as one"
      )
    }
    // The parent's pages alone make a share of nearly all new pages impossible.
    if case .newestOfSameVM = request.parent, request.vm == nil,
      storedPageCount >= Self.minimumPageCount, parent.storedPageCount >= Self.minimumPageCount,
      newPageCount > storedPageCount - storedPageCount / 50
    {
      lines.append(
        "RAM shares hardly a page with \(title): if it is another VM, delete this snapshot and give the VM "
          + "a name of its own"
      )
    }
    return lines
  }

  private var isFlat: Bool {
    request.input.source is FlatFileSource || request.input.source is FlatStreamSource
  }
}
