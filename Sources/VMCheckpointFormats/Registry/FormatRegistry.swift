package import VMCheckpoint

/// All formats. The command line, its help and the documents follow from this list.
package enum FormatRegistry {
  /// In the order in which they are listed.
  package static let all: [any MemoryFormat] = [
    FlatRAM(),
    ELFDump(),
    LiMECapture(),
    AVMLCapture(),
    KdumpDump(),
    VMwareMemory(),
    PropolisSnapshot(),
    QEMUMigration(),
    QEMUMonitor(),
    LibvirtSaveImage(),
    LibvirtManagedDomain(),
    CloudHypervisorSnapshot(),
    FirecrackerSnapshot(),
  ]

  /// What shows snapshots as files of a mount. A new one comes last: a file's place in the order is part of its node.
  package static let mountForms: [any MountForm] = [
    QEMUMountForm(),
    ELFMountForm(),
    LiMEMountForm(),
  ]

  /// What is left when a source is recognised as nothing else.
  package static let flat: any MemoryFormat = FlatRAM()

  /// The format with this name.
  package static func format(named name: String) -> (any MemoryFormat)? {
    all.first { $0.name == name }
  }

  /// The format of the file at `path`, by its first bytes, else by its name; or of a directory, by its
  /// files. Other kinds of files, and what is not there, count as flat RAM: the save says what is wrong.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` for a file of a known kind that is not a
  ///   guest's RAM, and for another directory; another code when the file cannot be read.
  package static func recognize(path: String) throws(VMCheckpointError) -> any MemoryFormat {
    guard let head = try FileHead(path: path) else {
      guard SourceDirectory.exists(at: path) else { return flat }
      if let format = all.first(where: { $0.recognizes(directory: path) }) { return format }
      throw .invalidData(
        "SOURCE \(quotedName(path)) is a directory, and not a snapshot of a VMM",
        hint: "give a file in it, or name its format, as in firecracker:\(path)"
      )
    }
    if let format = all.first(where: { $0.recognizes(head) }) { return format }
    try ForeignFormat.refuse(head, source: path)
    return all.first { $0.recognizes(fileName: path) } ?? flat
  }

  /// Refuses a stream whose first bytes are of a known kind and not flat RAM.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  package static func refuseStream(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError) {
    let head = FileHead(bytes)
    if let format = all.first(where: { $0.recognizes(head) }) {
      throw VMCheckpointError(
        .invalidData,
        "standard input is in the format \(format.name), and is not flat RAM",
        hint: format.readsStreams
          ? "write \(format.name):- as SOURCE; raw:- stores its bytes as RAM"
          : "put it into a file, and write \(format.name):PATH; raw:- stores its bytes as RAM"
      )
    }
    try ForeignFormat.refuse(head, source: nil)
  }
}
