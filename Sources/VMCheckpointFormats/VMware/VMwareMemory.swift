public import VMCheckpoint

/// RAM of a VM of VMware: a file `.vmem`, and beside it the VM's state, `.vmss` or `.vmsn`, which says where RAM is.
struct VMwareMemory: MemoryFormat {
  let name = "vmware"
  let summary = "RAM of a VMware VM (.vmem) with the state beside it (.vmss, .vmsn)"
  let form: RestoreFormat? = nil
  let describesLayout = true

  /// The state; RAM itself has nothing to know it by.
  func recognizes(_ head: FileHead) -> Bool {
    (VMwareState.magics + VMwareState.oldMagics).contains { head.has($0) }
  }

  func input(_ source: SourceReference) throws(VMCheckpointError) -> RAMInput {
    guard case .path(let path) = source.place else {
      throw VMCheckpointError(
        .invalidArgument,
        "VMware's RAM cannot be read from standard input: it is in two files",
        hint: "write vmware:PATH"
      )
    }
    return .vmware(path: path)
  }
}

extension RAMInput {
  /// RAM of a VM of VMware.
  ///
  /// - Parameter path: The file `.vmem`, or the state, `.vmss` or `.vmsn`. The other one is beside it.
  public static func vmware(path: String) -> RAMInput { RAMInput(VMwareSource(file: path)) }
}
