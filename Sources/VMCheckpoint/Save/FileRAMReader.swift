import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Reads a flat RAM file, skipping its holes without reading them.
final class FileRAMReader: RAMReader {
  private struct Position {
    var region = 0
    /// Bytes into the region.
    var offset: UInt64 = 0
    var sequence = 0
    /// An index into `keptPFNs`.
    var keptIndex = 0
  }

  private let descriptor: FileDescriptor
  private let path: String
  private let layout: RAMLayout
  /// PFNs that must be visited even inside a hole, ascending.
  private let keptPFNs: [UInt64]
  private let position = Mutex(Position())

  let totalByteCount: UInt64?

  /// Opens the RAM file at `path`. `makeLayout` gets the file's size.
  ///
  /// - Throws: ``VMCheckpointError`` when there is no such file, or its size does not fit.
  static func openFile(
    path: String,
    makeLayout: (UInt64) throws(VMCheckpointError) -> RAMLayout
  ) throws(VMCheckpointError) -> (FileDescriptor, RAMLayout) {
    let name = quotedName(path)
    let descriptor: FileDescriptor
    do {
      descriptor = try FileDescriptor.open(
        FilePath(path),
        .readOnly,
        options: [.closeOnExec, .nonBlocking]
      )
    } catch {
      throw openingError(error as? Errno ?? .ioError, name: name)
    }
    do throws(VMCheckpointError) {
      let byteCount = try size(of: descriptor, name: name)
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

  /// Takes over `descriptor`.
  init(descriptor: FileDescriptor, path: String, layout: RAMLayout, keptPFNs: [UInt64]) {
    self.descriptor = descriptor
    self.path = path
    self.layout = layout
    self.keptPFNs = keptPFNs
    totalByteCount = layout.byteCount
  }

  deinit {
    try? descriptor.close()
  }

  func finalLayout() -> RAMLayout { layout }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    let fileOffset = try position.withLock { position throws(VMCheckpointError) in
      try claim(&position, window)
    }
    guard let fileOffset else { return false }
    try read(window, at: fileOffset)
    return true
  }

  /// Sets the window's PFNs; returns where in the file it begins, or `nil` at the end.
  private func claim(
    _ position: inout Position,
    _ window: RAMWindow
  ) throws(VMCheckpointError) -> UInt64? {
    while position.region < layout.regions.count {
      let region = layout.regions[position.region]
      if let start = try nextOffsetToVisit(&position, in: region) {
        let pageCount = min(
          UInt64(RAMWindow.pageCapacity),
          Page.count(inByteCount: region.byteCount - start)
        )
        window.sequence = position.sequence
        window.firstPFN = region.firstPFN.rawValue + Page.count(inByteCount: start)
        window.pageCount = Int(pageCount)
        position.sequence += 1
        position.offset = start + pageCount << UInt64(Page.shift)
        window.sourceEndOffset =
          layout.regions[..<position.region].reduce(0) { $0 + $1.byteCount } + position.offset
        return region.fileOffset + start
      }
      position.region += 1
      position.offset = 0
    }
    return nil
  }

  /// The offset in `region`, from the current one on, of the next page that is in no hole of the
  /// file or must be visited anyway.
  private func nextOffsetToVisit(
    _ position: inout Position,
    in region: MemoryRegion
  ) throws(VMCheckpointError) -> UInt64? {
    guard position.offset < region.byteCount else { return nil }
    let pfn = region.firstPFN.rawValue + Page.count(inByteCount: position.offset)
    while position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < pfn {
      position.keptIndex += 1
    }
    var next = region.byteCount
    if position.keptIndex < keptPFNs.count {
      let kept = keptPFNs[position.keptIndex] - region.firstPFN.rawValue
      next = min(next, kept << UInt64(Page.shift))
    }
    let fileOffset = region.fileOffset + position.offset
    let data = lseek(descriptor.rawValue, off_t(fileOffset), clinux_seek_data)
    if data >= 0 {
      let pageStart = UInt64(data) & ~UInt64(Page.byteCount - 1)
      if pageStart >= fileOffset { next = min(next, pageStart - region.fileOffset) }
    } else if errno != ENXIO {
      // Not every file system knows holes: then all is data. ENXIO: a hole up to the end, or
      // the file has shrunk to before here.
      next = position.offset
    } else if try Self.size(of: descriptor, name: quotedName(path)) < layout.fileByteCount {
      throw shrank()
    }
    return next < region.byteCount ? next : nil
  }

  private func read(_ window: RAMWindow, at fileOffset: UInt64) throws(VMCheckpointError) {
    var done = 0
    let byteCount = window.pageCount * Page.byteCount
    while done < byteCount {
      let result = pread(
        descriptor.rawValue,
        window.bytes.baseAddress! + done,
        byteCount - done,
        off_t(fileOffset) + off_t(done)
      )
      if result > 0 {
        done += result
      } else if result == 0 {
        throw shrank()
      } else if errno != EINTR {
        throw VMCheckpointError(
          .inputOutput,
          """
          cannot read RAM file \(quotedName(path)) at offset \
          \(hexString(fileOffset + UInt64(done))): \(Errno(rawValue: errno))
          """
        )
      }
    }
  }

  private func shrank() -> VMCheckpointError {
    VMCheckpointError(
      .inputOutput,
      "RAM file \(quotedName(path)) shrank while it was being saved",
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
        "cannot examine RAM file \(name): \(Errno(rawValue: errno))"
      )
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      return UInt64(status.st_size)
    case S_IFBLK:
      let end = lseek(descriptor.rawValue, 0, SEEK_END)
      return end < 0 ? 0 : UInt64(end)
    case S_IFDIR:
      throw .invalidData("RAM file \(name) is a directory")
    default:
      throw .invalidData(
        "RAM file \(name) is neither a file nor a block device",
        hint: "to save what a pipe holds, redirect it and give - as the source"
      )
    }
  }

  private static func openingError(_ error: Errno, name: String) -> VMCheckpointError {
    switch error {
    case .noSuchFileOrDirectory, .notDirectory:
      VMCheckpointError(.notFound, "there is no RAM file \(name)")
    case .permissionDenied, .notPermitted:
      VMCheckpointError(.permissionDenied, "no permission to read RAM file \(name)")
    default:
      VMCheckpointError(.inputOutput, "cannot open RAM file \(name): \(error)")
    }
  }
}
