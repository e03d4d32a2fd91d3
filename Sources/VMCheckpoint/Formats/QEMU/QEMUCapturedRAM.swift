import SystemPackage

/// Where the RAM of a captured guest is, until it is saved.
struct QEMUCapturedRAM {
  let layout: RAMLayout
  /// The files that hold it.
  let paths: [String]
  /// Where `layout` stands in them.
  let placement: RAMPlacement

  /// Opens the files.
  ///
  /// - Throws: ``VMCheckpointError`` when one is not there any more; none is open then.
  func open() throws(VMCheckpointError) -> [FileRAMReader.File] {
    var files: [FileRAMReader.File] = []
    do throws(VMCheckpointError) {
      for (index, path) in paths.enumerated() {
        let (descriptor, byteCount) = try FileRAMReader.open(path: path)
        files.append(FileRAMReader.File(descriptor: descriptor, path: path))
        guard byteCount >= placement.endFileOffset(ofFile: index) else {
          throw .invalidData("RAM file \(quotedName(path)) is smaller than the guest's RAM")
        }
      }
    } catch {
      for file in files { try? file.descriptor.close() }
      throw error
    }
    return files
  }
}
