import Glibc
import Synchronization
import SystemPackage

/// Reads RAM from a pipe, once and in order.
///
/// Windows are read by whichever thread holds the lock; the others go on scanning theirs.
final class StreamRAMReader: RAMReader {
  private struct Position {
    var byteOffset: UInt64 = 0
    var sequence = 0
    var region = 0
    var isAtEnd = false
  }

  private let source: StreamReader
  private let name: String
  /// `nil`: one region from GPA 0 that is as large as the stream.
  private let layout: RAMLayout?
  private let inspector: StreamInspector?
  private let position = Mutex(Position())

  let totalByteCount: UInt64?

  /// - Throws: ``VMCheckpointError`` when the regions do not follow each other in the stream.
  init(
    fileDescriptor: Int32,
    name: String,
    layout: RAMLayout?,
    inspector: StreamInspector? = nil,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    var offset: UInt64 = 0
    for region in layout?.regions ?? [] {
      guard region.fileOffset == offset else {
        throw .invalidData(
          "in a stream the memory regions must follow each other in order of their GPAs",
          hint: "save from a file to give the regions in another order"
        )
      }
      offset = region.endFileOffset
    }
    self.name = quotedName(name)
    source = StreamReader(
      descriptor: fileDescriptor,
      name: "RAM stream \(self.name)",
      cancellation: cancellation
    )
    self.layout = layout
    self.inspector = inspector
    totalByteCount = layout?.byteCount
  }

  func finalLayout() throws(VMCheckpointError) -> RAMLayout {
    if let layout { return layout }
    let byteCount = position.withLock { $0.byteOffset }
    guard byteCount > 0 else {
      throw .invalidData("RAM stream \(name) is empty")
    }
    return try RAMLayout(contiguousByteCount: byteCount)
  }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    try position.withLock { position throws(VMCheckpointError) in
      guard !position.isAtEnd else { return false }
      let wanted = try pagesWanted(&position, window)
      let read = try wanted == 0 ? expectEnd() : fill(window, byteCount: wanted * Page.byteCount)
      // Before the stream's length is looked at: what is of another kind has any.
      if position.sequence == 0 {
        do throws(VMCheckpointError) {
          try inspector?.inspect(UnsafeRawBufferPointer(rebasing: window.bytes[..<read]))
        } catch {
          // Other threads must not go on to find something else wrong.
          position.isAtEnd = true
          throw error
        }
      }
      if read < wanted * Page.byteCount || wanted == 0 {
        position.isAtEnd = true
        try checkEnd(at: position.byteOffset + UInt64(read))
      }
      window.pageCount = read / Page.byteCount
      window.sequence = position.sequence
      position.sequence += 1
      position.byteOffset += UInt64(read)
      window.sourceEndOffset = position.byteOffset
      return window.pageCount > 0
    }
  }

  /// Sets the window's first PFN; returns how many pages belong in it.
  private func pagesWanted(_ position: inout Position, _ window: RAMWindow)
    throws(VMCheckpointError) -> Int
  {
    guard let layout else {
      guard position.byteOffset < RAMLayout.gpaLimit else {
        throw .invalidData("RAM stream \(name) is larger than any guest's RAM")
      }
      window.firstPFN = Page.count(inByteCount: position.byteOffset)
      return RAMWindow.pageCapacity
    }
    while position.region < layout.regions.count,
      layout.regions[position.region].endFileOffset <= position.byteOffset
    {
      position.region += 1
    }
    guard position.region < layout.regions.count else { return 0 }
    let region = layout.regions[position.region]
    let offset = position.byteOffset - region.fileOffset
    window.firstPFN = region.firstPFN.rawValue + Page.count(inByteCount: offset)
    return Int(
      min(UInt64(RAMWindow.pageCapacity), Page.count(inByteCount: region.byteCount - offset))
    )
  }

  private func checkEnd(at byteOffset: UInt64) throws(VMCheckpointError) {
    if let layout, byteOffset != layout.fileByteCount {
      throw VMCheckpointError(
        .inputOutput,
        """
        RAM stream \(name) ended after \(byteOffset) bytes, and the memory regions hold \
        \(layout.fileByteCount)
        """
      )
    }
    guard byteOffset % UInt64(Page.byteCount) == 0 else {
      throw .invalidData(
        "RAM stream \(name) ended after \(byteOffset) bytes, which is not a multiple of 4096"
      )
    }
  }

  /// - Returns: 0.
  /// - Throws: ``VMCheckpointError`` when bytes follow the last region.
  private func expectEnd() throws(VMCheckpointError) -> Int {
    var extra: UInt8 = 0
    let count = try withUnsafeMutableBytes(of: &extra) { buffer throws(VMCheckpointError) in
      try source.read(into: buffer)
    }
    guard count == 0 else {
      throw .invalidData("RAM stream \(name) is longer than the memory regions")
    }
    return 0
  }

  /// - Returns: The bytes read; fewer than asked for only at the end.
  private func fill(_ window: RAMWindow, byteCount: Int) throws(VMCheckpointError) -> Int {
    var done = 0
    while done < byteCount {
      let room = UnsafeMutableRawBufferPointer(rebasing: window.bytes[done..<byteCount])
      let count = try source.read(into: room)
      if count == 0 { break }
      done += count
    }
    return done
  }
}
