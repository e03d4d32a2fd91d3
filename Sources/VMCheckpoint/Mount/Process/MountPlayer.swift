import CLinux
import Glibc
import Synchronization

/// Puts the pages of a working set into the kernel's memory before anybody asks for them.
///
/// It stores them in the kernel's page cache (`FUSE_NOTIFY_STORE`): chunks that are only decoded would need a request for
/// each page all the same, and the cache of decoded chunks is smaller than most sets. One thread plays, a few pages at
/// a time, and waits while requests are answered.
struct MountPlayer: Sendable {
  /// 128 KiB, which are decoded in a fraction of a millisecond.
  private static let stepPageCount: UInt64 = 32
  private static let yieldMicroseconds: UInt32 = 100
  private static let maximumYieldCount = 20

  let device: Int32
  let node: UInt64
  let ram: MountedRAM
  /// The reader of the file.
  let reader: @Sendable () throws(VMCheckpointError) -> SnapshotReader
  /// Whether requests are being answered.
  let isBusy: @Sendable () -> Bool
  /// Whether there is nobody left for whom to play.
  let isOver: @Sendable () -> Bool

  /// Plays until all pages are there, or nobody needs them. What cannot be read is passed over: whoever needs it is
  /// told.
  func play(_ set: WorkingSet) {
    let capacity = Int(Self.stepPageCount) << Page.shift
    guard let buffer = try? LargeMemory.allocate(byteCount: capacity) else { return }
    defer { LargeMemory.free(buffer) }
    (try? reader())?.bringAhead(set.runs, all: false)
    for run in set.runs {
      for place in ram.places(of: run) {
        var offset = place.offset
        let end = offset + place.pageCount << UInt64(Page.shift)
        while offset < end {
          giveWay()
          guard !isOver() else { return }
          let count = min(end - offset, UInt64(capacity))
          let pages = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(count)])
          if (try? read(from: offset, into: pages)) != nil, !store(pages, at: offset) { return }
          offset += count
        }
      }
    }
  }

  private func giveWay() {
    var count = 0
    while isBusy(), count < Self.maximumYieldCount {
      usleep(Self.yieldMicroseconds)
      count += 1
    }
  }

  private func read(
    from offset: UInt64,
    into pages: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) {
    try ram.read(
      from: offset,
      into: pages,
      reader(),
      headBytes: { () throws(VMCheckpointError) in [] },
      touch: { _ in }
    )
  }

  /// - Returns: `false` when the kernel does not take them: the file is gone.
  private func store(_ pages: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool {
    var notice = FUSEReply.storeNotice(node: node, offset: offset, byteCount: pages.count)
    return notice.withUnsafeMutableBytes { notice in
      var parts = [
        iovec(iov_base: notice.baseAddress, iov_len: notice.count),
        iovec(iov_base: pages.baseAddress, iov_len: pages.count),
      ]
      while true {
        if writev(device, &parts, 2) >= 0 { return true }
        guard errno == EINTR || errno == EAGAIN else { return false }
      }
    }
  }
}
