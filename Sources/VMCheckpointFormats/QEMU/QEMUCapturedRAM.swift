import SystemPackage
import VMCheckpoint

/// Where the RAM of a captured guest is, until it is saved.
struct QEMUCapturedRAM {
  let layout: RAMLayout
  /// The files that hold it.
  let paths: [String]
  /// Where `layout` is in them.
  let placement: RAMPlacement
  /// What has it in place of files.
  let inPlace: QEMURAMInPlace?
  /// The pages that the stream has not sent.
  let absent: AbsentPages

  /// The guest with its RAM, and nothing else yet.
  ///
  /// - Throws: As ``open()``.
  func guest() throws(VMCheckpointError) -> CapturedGuest {
    guard let inPlace else {
      var guest = CapturedGuest(layout: layout, placement: placement, files: try open())
      guest.absent = absent
      return guest
    }
    var guest = CapturedGuest(layout: layout) { [layout, placement] keptPFNs in
      QEMUInPlaceReader(inPlace, layout: layout, placement: placement, keptPFNs: keptPFNs)
    }
    guest.readPage = { [placement] pfn throws(VMCheckpointError) in
      guard let place = placement.place(of: pfn) else { return nil }
      return try inPlace.page(at: place.fileOffset)
    }
    guest.absent = absent
    return guest
  }

  /// Opens the files.
  ///
  /// - Throws: ``VMCheckpointError`` when one is not there any more; none is open then.
  func open() throws(VMCheckpointError) -> OpenRAMFiles {
    var files: [OpenRAMFiles.File] = []
    do throws(VMCheckpointError) {
      for (index, path) in paths.enumerated() {
        let (descriptor, byteCount) = try FileRAMReader.open(path: path)
        files.append(OpenRAMFiles.File(descriptor: descriptor, path: path))
        guard byteCount >= placement.endFileOffset(ofFile: index) else {
          throw .invalidData("RAM file \(quotedName(path)) is smaller than the guest's RAM")
        }
      }
    } catch {
      for file in files { try? file.descriptor.close() }
      throw error
    }
    return OpenRAMFiles(files)
  }

  /// Where the RAM of a machine lies.
  ///
  /// - Parameters:
  ///   - given: Where RAM lies, if the user knows better than the machine.
  ///   - machineLayout: Where RAM lies in the machine, if that was read from it; else its type says.
  ///   - machine: The machine's type with its version.
  ///   - blocks: What makes up flat RAM.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  static func layout(
    _ given: RAMLayoutSource,
    machineLayout: RAMLayout?,
    machine machineName: String,
    blocks: [(name: String, byteCount: UInt64)]
  ) throws(VMCheckpointError) -> RAMLayout {
    let byteCount = blocks.reduce(0) { $0 + $1.byteCount }
    let layout: RAMLayout
    switch (given, machineLayout) {
    case (.regions(let regions), _): layout = regions
    case (.qemu(let machine, _), _): layout = try machine.layout(ramByteCount: byteCount)
    case (.contiguous, let machineLayout?): layout = machineLayout
    case (.contiguous, nil):
      guard let machine = QEMUMachine(versionedName: machineName) else {
        throw .invalidData(
          "how RAM lies in a machine of type \(quotedName(machineName)) is unknown",
          hint: "give its memory regions with --region, or --qemu-machine"
        )
      }
      layout = try machine.layout(ramByteCount: byteCount)
    }
    // All of a block is RAM: what no region describes would be lost.
    guard layout.fileByteCount == byteCount, layout.byteCount == byteCount else {
      let names = blocks.map { quotedName($0.name) }.joined(separator: ", ")
      throw .invalidData(
        """
        RAM block \(names) has \(byteCount) bytes, and the memory regions hold \(layout.byteCount)
        """,
        hint: "the regions together must describe all of it"
      )
    }
    return layout
  }
}
