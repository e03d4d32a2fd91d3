public import VMCheckpoint

/// A capture of AVML, compressed.
struct AVMLCapture: MemoryFormat {
  let name = "avml"
  let summary = "A compressed memory capture of AVML (version 2)"
  let form: RestoreFormat? = nil
  let describesLayout = true
  let readsStreams = true

  func recognizes(_ head: FileHead) -> Bool { head.has(RangeHeader.Kind.snappy.magic) }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .avml(path: path)
    case .standardInput(let fileDescriptor): .avml(fileDescriptor: fileDescriptor)
    }
  }
}

extension RAMInput {
  /// A capture of AVML, whose ranges must come in ascending order. It says where RAM is.
  public static func avml(path: String) -> RAMInput { RAMInput(AVMLSource(place: .path(path))) }

  /// The same from a pipe. The descriptor stays the caller's.
  public static func avml(fileDescriptor: Int32) -> RAMInput {
    RAMInput(AVMLSource(place: .standardInput(fileDescriptor: fileDescriptor)))
  }
}

/// A capture of AVML, as something to save: a file too is read from its beginning to its end.
struct AVMLSource: CaptureSource {
  let place: SourceReference.Place

  var path: String? {
    guard case .path(let path) = place else { return nil }
    return path
  }

  var names: CaptureNames {
    let name = path.map { CaptureNames.lastComponent(of: $0) } ?? "stdin"
    return CaptureNames(snapshot: name, vm: name, description: "avml:\(path ?? "-")")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let name = "AVML capture \(quotedName(path ?? "stdin"))"
    try context.requireNoLayout(name: name)
    return try place.withDescriptor(noun: "AVML capture") { descriptor throws(VMCheckpointError) in
      let stream = StreamReader(
        descriptor: descriptor,
        name: name,
        cancellation: context.control.cancellation
      )
      let ranges = try AVMLStream(try DumpInput(stream), name: name)
      return try use(.reading(ranges, context.control))
    }
  }
}
