import Synchronization
import VMCheckpoint

/// The RAM of a core that comes through a pipe, behind its headers and notes.
struct ELFStreamRAM {
  let map: LoadMap
  let stream: StreamReader
  let name: String
  /// How many bytes were taken from the stream.
  let startOffset: UInt64

  /// - Throws: ``VMCheckpointError``, whose message goes on after the core's name, when RAM does not come in one
  ///   pass.
  init(
    _ map: LoadMap,
    head: ELFStreamHead,
    stream: StreamReader,
    name: String
  ) throws(VMCheckpointError) {
    var offset = UInt64(head.bytes.count)
    for piece in map.placement.pieces where piece.fileIndex == LoadMap.dumpFileIndex {
      guard piece.fileOffset >= offset else { throw ELFStreamHead.notInOrder }
      offset = piece.endFileOffset
    }
    guard map.fragments.isEmpty else {
      throw .invalidData(
        "cannot be read from a pipe: its loads begin or end inside pages",
        hint: "put it into a file, and write elf:PATH"
      )
    }
    self.map = map
    self.stream = stream
    self.name = name
    startOffset = UInt64(head.bytes.count)
  }
}

/// Reads RAM from a pipe, once and in order. Windows are read by whichever thread has the lock.
final class ELFStreamRAMReader: RAMReader {
  private struct Position {
    var streamOffset: UInt64
    var piece = 0
    /// Into the piece.
    var pageIndex: UInt64 = 0
    var keptIndex = 0
    var sequence = 0
    var donePageCount: UInt64 = 0
    var isAtEnd = false
    /// What is read and not needed.
    var scratch = [UInt8](repeating: 0, count: 64 << 10)
  }

  private let ram: ELFStreamRAM
  /// PFNs that must be visited even where all is zero, ascending.
  private let keptPFNs: [UInt64]
  private let position: Mutex<Position>

  let totalByteCount: UInt64?

  init(_ ram: ELFStreamRAM, keptPFNs: [UInt64]) {
    self.ram = ram
    self.keptPFNs = keptPFNs
    position = Mutex(Position(streamOffset: ram.startOffset))
    totalByteCount = ram.map.layout.byteCount
  }

  func finalLayout() -> RAMLayout { ram.map.layout }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    try position.withLock { position throws(VMCheckpointError) in
      guard !position.isAtEnd else { return false }
      do throws(VMCheckpointError) {
        let pieces = ram.map.placement.pieces
        while position.piece < pieces.count {
          let piece = pieces[position.piece]
          let isRead =
            try piece.fileIndex == LoadMap.dumpFileIndex
            ? read(piece, &position, into: window) : visitKept(piece, &position, window)
          if isRead { return true }
          position.donePageCount += piece.pageCount
          position.piece += 1
          position.pageIndex = 0
        }
        position.isAtEnd = true
        try drain(&position)
        return false
      } catch {
        // Other threads must not go on to find something else wrong.
        position.isAtEnd = true
        throw error
      }
    }
  }

  /// Reads the next window of `piece`.
  ///
  /// - Returns: `false` at its end.
  private func read(
    _ piece: RAMPlacement.Piece,
    _ position: inout Position,
    into window: RAMWindow
  ) throws(VMCheckpointError) -> Bool {
    let rest = piece.pageCount - position.pageIndex
    guard rest > 0 else { return false }
    let pageCount = min(UInt64(RAMWindow.pageCapacity), rest)
    try skip(
      to: piece.fileOffset + position.pageIndex << UInt64(Page.shift),
      &position
    )
    let byteCount = Int(pageCount) * Page.byteCount
    var done = 0
    while done < byteCount {
      let room = UnsafeMutableRawBufferPointer(rebasing: window.bytes[done..<byteCount])
      let count = try ram.stream.read(into: room)
      guard count > 0 else { throw cut(at: position.streamOffset + UInt64(done)) }
      done += count
    }
    position.streamOffset += UInt64(byteCount)
    finish(window, piece, &position, pageCount: pageCount)
    return true
  }

  /// Gives the next page of zeros in `piece` that must be visited.
  private func visitKept(
    _ piece: RAMPlacement.Piece,
    _ position: inout Position,
    _ window: RAMWindow
  ) -> Bool {
    let pfn = piece.firstPFN + position.pageIndex
    while position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < pfn {
      position.keptIndex += 1
    }
    guard position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < piece.endPFN else {
      return false
    }
    position.pageIndex = keptPFNs[position.keptIndex] - piece.firstPFN
    window.page(0).initializeMemory(as: UInt8.self, repeating: 0)
    finish(window, piece, &position, pageCount: 1)
    return true
  }

  private func finish(
    _ window: RAMWindow,
    _ piece: RAMPlacement.Piece,
    _ position: inout Position,
    pageCount: UInt64
  ) {
    window.firstPFN = piece.firstPFN + position.pageIndex
    window.pageCount = Int(pageCount)
    window.sequence = position.sequence
    position.sequence += 1
    position.pageIndex += pageCount
    window.sourceEndOffset =
      (position.donePageCount + position.pageIndex) << UInt64(Page.shift)
  }

  /// Takes bytes that are not RAM.
  private func skip(to offset: UInt64, _ position: inout Position) throws(VMCheckpointError) {
    while position.streamOffset < offset {
      let wanted = min(UInt64(position.scratch.count), offset - position.streamOffset)
      let count = try take(Int(wanted), &position)
      guard count > 0 else { throw cut(at: position.streamOffset) }
    }
  }

  /// Reads what follows RAM, so that the writer of the pipe can end.
  private func drain(_ position: inout Position) throws(VMCheckpointError) {
    while try take(position.scratch.count, &position) > 0 {}
  }

  private func take(_ byteCount: Int, _ position: inout Position) throws(VMCheckpointError) -> Int {
    let stream = ram.stream
    let count = try position.scratch.withUnsafeMutableBytes { buffer in
      Result { () throws(VMCheckpointError) in
        try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<byteCount]))
      }
    }.get()
    position.streamOffset += UInt64(count)
    return count
  }

  private func cut(at offset: UInt64) -> VMCheckpointError {
    .invalidData(
      "\(ram.name) is cut short in its RAM, after \(offset) bytes",
      hint: "wait until it is written, or copy it again"
    )
  }
}
