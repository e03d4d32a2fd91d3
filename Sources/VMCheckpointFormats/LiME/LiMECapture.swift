public import VMCheckpoint

/// A capture of LiME: ranges of physical memory, each behind a header.
struct LiMECapture: MemoryFormat {
  let name = "lime"
  let summary = "A memory capture of LiME: ranges of physical memory, which volatility3 opens"
  let form: RestoreFormat? = .lime
  let describesLayout = true
  let readsStreams = true

  func recognizes(_ head: FileHead) -> Bool { head.has(RangeHeader.Kind.plain.magic) }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .lime(path: path)
    case .standardInput(let fileDescriptor): .lime(fileDescriptor: fileDescriptor)
    }
  }

  /// What messages call a capture.
  static func title(_ name: String) -> String { "LiME capture \(quotedName(name))" }
}

extension RAMInput {
  /// A capture of LiME, read in place. It says where RAM is.
  public static func lime(path: String) -> RAMInput { RAMInput(LiMEFileSource(file: path)) }

  /// The same from a pipe, whose ranges must come in ascending order. The descriptor stays the caller's.
  public static func lime(fileDescriptor: Int32) -> RAMInput {
    RAMInput(LiMEStreamSource(fileDescriptor: fileDescriptor))
  }
}

extension RestoreFormat {
  /// A capture of LiME, with a range for each memory region.
  public static let lime = RestoreFormat(LiMEForm())
}
