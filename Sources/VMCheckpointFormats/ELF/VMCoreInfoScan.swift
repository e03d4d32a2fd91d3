import Synchronization
import VMCheckpoint

/// Pages that begin like VMCOREINFO, found while RAM is written to a file.
final class VMCoreInfoCandidates: Sendable {
  /// A guest may fill its RAM with them.
  private static let maximumCount = 64

  private let found = Mutex<[PFN]>([])

  /// In ascending order.
  var pfns: [PFN] { found.withLock { $0.sorted() } }

  /// Looks at consecutive pages.
  func look(firstPFN: UInt64, _ pages: UnsafeRawBufferPointer) {
    var offset = 0
    while offset < pages.count {
      let page = UnsafeRawBufferPointer(rebasing: pages[offset..<(offset + Page.byteCount)])
      if VMCoreInfo.textByteCount(page) != nil {
        note(PFN(unchecked: firstPFN + Page.count(inByteCount: UInt64(offset))))
      }
      offset += Page.byteCount
    }
  }

  /// Keeps the lowest ones: a file and a pipe get the same.
  private func note(_ pfn: PFN) {
    found.withLock { found in
      found.append(pfn)
      guard found.count > Self.maximumCount, let highest = found.max() else { return }
      found.removeAll { $0 == highest }
    }
  }
}

/// Finds VMCOREINFO in RAM that comes in order.
final class VMCoreInfoScan: FlatRAMSink {
  /// Ends the pass over RAM once the note is found.
  static let isFound = VMCheckpointError(.cancelled, "VMCOREINFO was found")

  private var pieces: ArraySlice<RAMPlacement.Piece>
  /// Into the first piece.
  private var byteOffset: UInt64 = 0
  /// Of a note that goes on in the next page.
  private var missingByteCount = 0
  private var text: [UInt8] = []
  private(set) var note: ELFNote?

  /// - Parameter placement: What RAM comes in the order of.
  init(_ placement: RAMPlacement) { pieces = placement.pieces[...] }

  func write(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError) {
    var offset = 0
    while offset < bytes.count, let piece = pieces.first {
      look(UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + Page.byteCount)]))
      offset += Page.byteCount
      byteOffset += UInt64(Page.byteCount)
      if byteOffset == piece.byteCount {
        pieces.removeFirst()
        byteOffset = 0
        // A note does not go on in another region.
        missingByteCount = 0
      }
      if note != nil { throw Self.isFound }
    }
  }

  private func look(_ page: UnsafeRawBufferPointer) {
    if missingByteCount > 0 {
      text += page[..<missingByteCount]
      missingByteCount = 0
      note = VMCoreInfo.note(text)
      return
    }
    guard let byteCount = VMCoreInfo.textByteCount(page) else { return }
    text = Array(page[VMCoreInfo.headByteCount...].prefix(byteCount))
    missingByteCount = byteCount - text.count
    if missingByteCount == 0 { note = VMCoreInfo.note(text) }
  }
}
