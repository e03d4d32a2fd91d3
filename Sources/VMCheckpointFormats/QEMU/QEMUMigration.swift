import VMCheckpoint

/// A QEMU migration stream: RAM and device state.
struct QEMUMigration: MemoryFormat {
  let name = "qemu-stream"
  let summary = "A QEMU migration stream, with RAM and device state"
  let form: RestoreFormat? = .qemuStream
  let readsStreams = true

  /// Also behind a hole: QEMU writes a stream at any offset of a file.
  func recognizes(_ head: FileHead) -> Bool {
    head.has("QEVM") || head.has([0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3], at: head.zeroCount)
  }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .qemuStream(.file(path: path))
    case .standardInput(let fileDescriptor):
      .qemuStream(.descriptor(fileDescriptor, name: "stdin"))
    }
  }
}
