import SystemPackage
import VMCheckpoint

/// Restores a snapshot as an ELF core.
///
/// A core without VMCOREINFO gets it from RAM. In a file it is found while RAM is written, and the notes, for
/// which there is room, are written last; a pipe needs the notes first, and so RAM is looked through before.
/// Both get the same bytes.
struct ELFRestore: RestorationWriter {
  let layout: RAMLayout
  let notes: ELFNotes
  let lacksVMCoreInfo: Bool
  let core: ELFCoreLayout
  /// What the user is told.
  private let warnings: [String]

  init(_ layout: RAMLayout, _ notes: ELFNotes, warnings: [String]) {
    self.layout = layout
    self.notes = notes
    self.warnings = warnings
    // Notes that cannot be taken apart were refused before.
    let found = (try? notes.all()) ?? []
    lacksVMCoreInfo = !found.contains { $0.isNamed(VMCoreInfo.name) }
    // Two alignments of up to 8.
    let room = lacksVMCoreInfo ? VMCoreInfo.roomByteCount + 16 : 0
    core = ELFCoreLayout(layout, noteByteCount: notes.bytes.count + room)
  }

  func write(_ restore: Restoration) throws -> UInt64 {
    for warning in warnings { restore.control.onWarning?(warning) }
    if !lacksVMCoreInfo {
      try restore.write(core.form(notes))
    } else if case .file = restore.target.output {
      let candidates = VMCoreInfoCandidates()
      try restore.write(core.formWithoutHead, observer: candidates.look) { output in
        let head = core.head(notes(with: try note(at: candidates.pfns, in: output)))
        try head.withUnsafeBytes { try output.write($0, at: 0) }
      }
    } else {
      try restore.write(core.form(notes(with: try noteInOrder(restore))))
    }
    return core.byteCount
  }

  func notes(with note: ELFNote?) -> ELFNotes {
    var notes = notes
    if let note { notes.append(note) }
    return notes
  }

  /// The first of these pages' notes that lies in RAM as a whole, read back from the core: overlays are in it.
  private func note(at pfns: [PFN], in output: OutputFile) throws -> ELFNote? {
    for pfn in pfns {
      guard let place = core.placement.place(of: pfn),
        let piece = core.placement.piece(holding: pfn.rawValue)
      else { continue }
      let room = piece.endFileOffset - place.fileOffset
      let bytes = try read(output, at: place.fileOffset, byteCount: Int(min(room, 2 * 4096)))
      guard let byteCount = bytes.withUnsafeBytes({ VMCoreInfo.textByteCount($0) }),
        VMCoreInfo.headByteCount + byteCount <= bytes.count
      else { continue }
      return VMCoreInfo.note(bytes[VMCoreInfo.headByteCount...].prefix(byteCount))
    }
    return nil
  }

  private func read(_ output: OutputFile, at offset: UInt64, byteCount: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let count = try bytes.withUnsafeMutableBytes {
      try FileIO.read(into: $0, from: output.descriptor, at: offset)
    }
    guard count == byteCount else {
      throw VMCheckpointError(.inputOutput, "cannot read \(quotedName(output.path)) back")
    }
    return bytes
  }

  /// Goes through RAM up to the first note.
  private func noteInOrder(_ restore: Restoration) throws -> ELFNote? {
    let ram = ELFCoreLayout.ramAlone(layout)
    let scan = VMCoreInfoScan(ram.placement)
    do {
      try restore.writeRAM(ram, inOrderTo: scan, isLastPass: false)
    } catch {
      guard scan.note != nil else { throw error }
    }
    return scan.note
  }
}

extension ELFCoreLayout {
  /// RAM in ascending order of GPA, and nothing else.
  static func ramAlone(_ layout: RAMLayout) -> RestoredForm {
    var offset: UInt64 = 0
    var pieces: [RAMPlacement.Piece] = []
    for region in layout.regions {
      pieces.append(
        .init(firstPFN: region.firstPFN.rawValue, pageCount: region.pageCount, fileOffset: offset)
      )
      offset += region.byteCount
    }
    return RestoredForm(placement: RAMPlacement(pieces: pieces), parts: [], byteCount: offset)
  }
}
