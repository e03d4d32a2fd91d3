import VMCheckpoint

/// Shows a snapshot in a mount as the ELF core that `restore --format elf` writes.
///
/// A core without VMCOREINFO gets it from RAM, which is looked through when the core's beginning is first read.
struct ELFMountForm: MountForm {
  static let fileName = "core.elf"

  func files(of guest: any RestorableGuest, showing overlays: [Overlay]) throws -> [MountFile] {
    let restore = try ELFForm().restore(guest)
    guard restore.lacksVMCoreInfo, let first = restore.core.placement.pieces.first else {
      return [MountFile(Self.fileName, .ram(MountedRAM(restore.core.form(restore.notes))))]
    }
    let head = MountedRAM.Head(byteCount: first.fileOffset) { reader in
      restore.core.head(restore.notes(with: try Self.note(in: reader)))
    }
    return [
      MountFile(Self.fileName, .ram(MountedRAM(restore.core.formWithoutHead, head: head)))
    ]
  }

  /// The first VMCOREINFO in RAM. Pages that cannot be read have none.
  private static func note(in reader: SnapshotReader) throws -> ELFNote? {
    let scan = VMCoreInfoScan(ELFCoreLayout.ramAlone(reader.layout).placement)
    let capacity: UInt64 = 256
    let buffer = try LargeMemory.allocate(byteCount: Int(capacity) * Page.byteCount)
    defer { LargeMemory.free(buffer) }
    for region in reader.layout.regions {
      var next = region.firstPFN.rawValue
      let end = next + region.pageCount
      while next < end {
        let (content, pageCount) = reader.content(at: PFN(unchecked: next))
        let count = min(pageCount, end - next, capacity)
        let pages = UnsafeMutableRawBufferPointer(
          rebasing: buffer[..<(Int(count) * Page.byteCount)]
        )
        pages.initializeMemory(as: UInt8.self, repeating: 0)
        if content == .data {
          do throws(VMCheckpointError) {
            try reader.read(from: PFN(unchecked: next), into: pages)
          } catch {
            guard error.code == .corrupt else { throw error }
            pages.initializeMemory(as: UInt8.self, repeating: 0)
          }
        }
        do throws(VMCheckpointError) {
          try scan.write(UnsafeRawBufferPointer(pages))
        } catch {
          return scan.note
        }
        next += count
      }
    }
    return nil
  }
}
