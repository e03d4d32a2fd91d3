import SystemPackage
import VMCheckpoint

/// A dump in a file whose RAM is read in place.
enum MappedDump {
  /// Opens the dump at `path`, as something to save.
  ///
  /// - Parameters:
  ///   - noun: What it is, for messages.
  ///   - makeMap: Reads where its RAM is. What it throws goes on after the file's name.
  /// - Throws: ``VMCheckpointError``. Nothing is open then.
  static func open(
    path: String,
    noun: String,
    makeMap: (inout DumpFile) throws(VMCheckpointError) -> LoadMap
  ) throws(VMCheckpointError) -> CapturedGuest {
    let (descriptor, byteCount) = try FileRAMReader.open(path: path, noun: noun)
    var files = [OpenRAMFiles.File(descriptor: descriptor, path: path)]
    do throws(VMCheckpointError) {
      var dump = DumpFile(descriptor: descriptor, byteCount: byteCount)
      let map = try makeMap(&dump)
      if map.assembledFileByteCount > 0 {
        files.append(.init(descriptor: try AssembledPages.make(map, from: dump), path: path))
      }
      var guest = CapturedGuest(
        layout: map.layout,
        placement: map.placement,
        files: OpenRAMFiles(files)
      )
      guest.absent = map.absent
      return guest
    } catch {
      for file in files { try? file.descriptor.close() }
      throw error.naming("\(noun) \(quotedName(path))")
    }
  }
}

extension CapturedGuest {
  /// A guest whose RAM comes in ranges. What of it is made up is told when all was read.
  static func reading(_ ranges: some RangeSource, _ control: OperationControl) -> CapturedGuest {
    // Made when the save begins to read.
    nonisolated(unsafe) var reader: RangeReader?
    var guest = CapturedGuest(layout: nil) { keptPFNs in
      let made = RangeReader(ranges, keptPFNs: keptPFNs)
      reader = made
      return made
    }
    guest.checkBeforeCompletion = {
      guard let totals = reader?.totals else { return }
      if totals.paddingByteCount > 0 {
        control.onWarning?(
          "\(ranges.name): \(LoadMap.paddingWarning(noun: "ranges", byteCount: totals.paddingByteCount))"
        )
      }
      if totals.zeroByteCount > 0 {
        control.onWarning?(
          "\(ranges.name): \(totals.zeroByteCount) bytes between its ranges are stored as zeros: blocks of "
            + "zeros are left out of such captures"
        )
      }
    }
    return guest
  }
}
