import VMCheckpoint

/// Flat RAM: the guest's regions at their offsets, without a header. What is recognised as nothing else.
struct FlatRAM: MemoryFormat {
  let name = "raw"
  let summary = "A flat file of the guest's RAM, or a stream of it"
  let form: RestoreFormat? = .raw
  let readsStreams = true
  let needsRAMSize = true

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): return .file(path: path)
    case .standardInput(let fileDescriptor):
      guard let inspect = source.inspectStream else {
        return .stream(fileDescriptor: fileDescriptor, name: "stdin")
      }
      return .stream(fileDescriptor: fileDescriptor, name: "stdin", inspect: inspect)
    }
  }
}
