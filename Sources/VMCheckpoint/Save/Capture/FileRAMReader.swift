import CLinux
import Glibc
import Synchronization
package import SystemPackage

/// Reads RAM from one or more files, in place, skipping their holes without reading them.
package final class FileRAMReader: RAMReader {
  private struct Position {
    var piece = 0
    /// Bytes into the piece.
    var offset: UInt64 = 0
    var sequence = 0
    /// The sum of the pieces before this one.
    var doneByteCount: UInt64 = 0
    /// An index into `keptPFNs`.
    var keptIndex = 0
  }

  let opened: OpenRAMFiles
  private var files: [OpenRAMFiles.File] { opened.files }
  private let layout: RAMLayout
  private let placement: RAMPlacement
  /// The least size of each file. Not to be found anew for each hole: there may be 100,000 pieces.
  private let endFileOffsets: [UInt64]
  /// PFNs that must be visited even inside a hole, ascending.
  private let keptPFNs: [UInt64]
  private let position = Mutex(Position())

  package let totalByteCount: UInt64?

  /// Opens the RAM file at `path`. `makeLayout` gets the file's size.
  ///
  /// - Throws: ``VMCheckpointError`` when there is no such file, or its size does not fit.
  package static func openFile(
    path: String,
    makeLayout: (UInt64) throws(VMCheckpointError) -> RAMLayout
  ) throws(VMCheckpointError) -> (FileDescriptor, RAMLayout) {
    let name = quotedName(path)
    let (descriptor, byteCount) = try open(path: path)
    do throws(VMCheckpointError) {
      guard byteCount > 0 else {
        throw .invalidData("RAM file \(name) is empty")
      }
      guard byteCount % UInt64(Page.byteCount) == 0 else {
        throw .invalidData(
          "RAM file \(name) has \(byteCount) bytes, which is not a multiple of 4096",
          hint: "give a raw image of RAM, complete to its last page"
        )
      }
      let layout = try makeLayout(byteCount)
      guard layout.fileByteCount == byteCount else {
        throw .invalidData(
          """
          RAM file \(name) has \(byteCount) bytes, and the memory regions end at offset \
          \(layout.fileByteCount)
          """,
          hint: "the regions together must describe the whole file"
        )
      }
      try UndescribedBytes.requireZero(in: descriptor, layout: layout, name: name)
      return (descriptor, layout)
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  /// Opens a file or block device that holds RAM.
  ///
  /// - Parameter noun: What it is, for messages.
  /// - Returns: It and its size.
  /// - Throws: ``VMCheckpointError`` when there is none, or it is something else.
  package static func open(
    path: String,
    noun: String = "RAM file"
  ) throws(VMCheckpointError) -> (descriptor: FileDescriptor, byteCount: UInt64) {
    let name = "\(noun) \(quotedName(path))"
    guard let opened = try ResolvedPath.open(source: path, flags: O_NONBLOCK) else {
      throw VMCheckpointError.cannotOpen(name, Errno(rawValue: errno))
    }
    let descriptor = FileDescriptor(rawValue: opened)
    do throws(VMCheckpointError) {
      return (descriptor, try size(of: descriptor, name: name))
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  /// - Parameter placement: Where `layout` is in the files; `nil`: they are one flat RAM file.
  package init(
    _ files: OpenRAMFiles,
    layout: RAMLayout,
    placement: RAMPlacement? = nil,
    keptPFNs: [UInt64]
  ) {
    opened = files
    self.layout = layout
    let pieces = placement ?? RAMPlacement(flat: layout)
    self.placement = pieces
    endFileOffsets = files.files.indices.map { pieces.endFileOffset(ofFile: $0) }
    self.keptPFNs = keptPFNs
    totalByteCount = layout.byteCount
  }

  package func finalLayout() -> RAMLayout { layout }

  package func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    guard let place = try claimWindow(window) else { return false }
    try read(0..<window.pageCount, of: window, at: place)
    return true
  }

  /// Where a window's first page lies.
  struct Place {
    var fileIndex: Int
    var fileOffset: UInt64
  }

  /// Sets the PFNs of `window` as ``readWindow(into:)`` does, and reads nothing.
  ///
  /// - Returns: Where the window begins; `nil` at the end.
  func claimWindow(_ window: RAMWindow) throws(VMCheckpointError) -> Place? {
    try position.withLock { position throws(VMCheckpointError) in try claim(&position, window) }
  }

  private func claim(
    _ position: inout Position,
    _ window: RAMWindow
  ) throws(VMCheckpointError) -> Place? {
    while position.piece < placement.pieces.count {
      let piece = placement.pieces[position.piece]
      if let start = try nextOffsetToVisit(&position, in: piece) {
        let pageCount = min(
          UInt64(RAMWindow.pageCapacity),
          Page.count(inByteCount: piece.byteCount - start)
        )
        window.sequence = position.sequence
        window.firstPFN = piece.firstPFN + Page.count(inByteCount: start)
        window.pageCount = Int(pageCount)
        position.sequence += 1
        position.offset = start + pageCount << UInt64(Page.shift)
        window.sourceEndOffset = position.doneByteCount + position.offset
        return Place(fileIndex: piece.fileIndex, fileOffset: piece.fileOffset + start)
      }
      position.piece += 1
      position.doneByteCount += piece.byteCount
      position.offset = 0
    }
    return nil
  }

  /// The offset in `piece`, from the current one on, of the next page that is in no hole of the
  /// file or must be visited anyway.
  private func nextOffsetToVisit(
    _ position: inout Position,
    in piece: RAMPlacement.Piece
  ) throws(VMCheckpointError) -> UInt64? {
    guard position.offset < piece.byteCount else { return nil }
    let pfn = piece.firstPFN + Page.count(inByteCount: position.offset)
    while position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < pfn {
      position.keptIndex += 1
    }
    var next = piece.byteCount
    if position.keptIndex < keptPFNs.count {
      let kept = keptPFNs[position.keptIndex] - piece.firstPFN
      next = min(next, kept << UInt64(Page.shift))
    }
    let file = files[piece.fileIndex]
    let fileOffset = piece.fileOffset + position.offset
    let data = lseek(file.descriptor.rawValue, off_t(fileOffset), clinux_seek_data)
    if data >= 0 {
      // Pages count from the piece's first byte, wherever in the file that is.
      if UInt64(data) >= fileOffset {
        next = min(next, (UInt64(data) - piece.fileOffset) & ~UInt64(Page.byteCount - 1))
      }
    } else if errno != ENXIO {
      // Not every file system knows holes: then all is data. ENXIO: a hole up to the end, or
      // the file has shrunk to before here.
      next = position.offset
    } else if try Self.size(of: file.descriptor, name: "RAM file \(quotedName(file.path))")
      < endFileOffsets[piece.fileIndex]
    {
      throw shrank(file)
    }
    return next < piece.byteCount ? next : nil
  }

  /// Reads some of a window's pages.
  ///
  /// - Parameters:
  ///   - pages: Counted from the window's first.
  ///   - place: What ``claimWindow(_:)`` gave for the window.
  func read(
    _ pages: Range<Int>,
    of window: RAMWindow,
    at place: Place
  ) throws(VMCheckpointError) {
    let file = files[place.fileIndex]
    let start = pages.lowerBound * Page.byteCount
    let fileOffset = place.fileOffset + UInt64(start)
    let room = UnsafeMutableRawBufferPointer(
      rebasing: window.bytes[start..<(pages.upperBound * Page.byteCount)]
    )
    let count: Int
    do throws(Errno) {
      count = try FileIO.read(into: room, from: file.descriptor, at: fileOffset)
    } catch {
      throw VMCheckpointError(
        .inputOutput,
        """
        cannot read RAM file \(quotedName(file.path)) at offset \(hexString(fileOffset)): \(error)
        """
      )
    }
    guard count == room.count else { throw shrank(file) }
  }

  func shrank(_ file: OpenRAMFiles.File) -> VMCheckpointError {
    VMCheckpointError(
      .inputOutput,
      "RAM file \(quotedName(file.path)) shrank while it was being saved",
      hint: "pause the VM, or save a copy of the file"
    )
  }

  private static func size(
    of descriptor: FileDescriptor,
    name: String
  ) throws(VMCheckpointError) -> UInt64 {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else {
      throw VMCheckpointError(
        .inputOutput,
        "cannot examine \(name): \(Errno(rawValue: errno))"
      )
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      return UInt64(status.st_size)
    case S_IFBLK:
      let end = lseek(descriptor.rawValue, 0, SEEK_END)
      return end < 0 ? 0 : UInt64(end)
    case S_IFDIR:
      throw .invalidData("\(name) is a directory")
    default:
      throw .invalidData(
        "\(name) is neither a file nor a block device",
        hint: "to save what a pipe holds, redirect it and give - as the source"
      )
    }
  }
}
