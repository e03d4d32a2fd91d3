import VMCheckpoint

/// A QEMU migration stream: RAM and device state.
struct QEMUMigration: MemoryFormat {
  let name = "qemu-stream"
  let summary = "A QEMU migration stream, with RAM and device state"
  let form: RestoreFormat? = .qemuStream
  let readsStreams = true

  func recognizes(_ head: FileHead) -> Bool { head.has("QEVM") }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .qemuStream(.file(path: path))
    case .standardInput(let fileDescriptor):
      .qemuStream(.descriptor(fileDescriptor, name: "stdin"))
    }
  }
}
