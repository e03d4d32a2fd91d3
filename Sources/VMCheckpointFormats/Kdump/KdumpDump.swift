public import VMCheckpoint

/// A dump of a guest in the kdump-compressed format, flattened or not: what makedumpfile and QEMU's
/// `dump-guest-memory -z` write.
struct KdumpDump: MemoryFormat {
  let name = "kdump"
  let summary = "A kdump-compressed dump (makedumpfile, dump-guest-memory -z), flattened or not"
  let form: RestoreFormat? = nil
  let describesLayout = true
  let readsStreams = true

  func recognizes(_ head: FileHead) -> Bool {
    head.has(KdumpHeader.magic) || head.has(KdumpHeader.oldMagic) || head.has(KdumpFlattened.magic)
  }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .kdump(path: path)
    case .standardInput(let fileDescriptor): .kdump(fileDescriptor: fileDescriptor)
    }
  }
}

extension RAMInput {
  /// A kdump. It says where RAM is; its headers and notes are kept as device states.
  public static func kdump(path: String) -> RAMInput { RAMInput(KdumpSource(place: .path(path))) }

  /// The same from a pipe. The descriptor stays the caller's.
  public static func kdump(fileDescriptor: Int32) -> RAMInput {
    RAMInput(KdumpSource(place: .standardInput(fileDescriptor: fileDescriptor)))
  }
}
