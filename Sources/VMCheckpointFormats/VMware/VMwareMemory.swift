public import VMCheckpoint

/// RAM of a VM of VMware: a file `.vmem`, and beside it the VM's state, `.vmss` or `.vmsn`, which says where RAM is.
struct VMwareMemory: MemoryFormat {
  let name = "vmware"
  let summary = "RAM of a VMware VM (.vmem) with the state beside it (.vmss, .vmsn)"
  let form: RestoreFormat? = nil
  let describesLayout = true

  /// The state.
  func recognizes(_ head: FileHead) -> Bool {
    (VMwareState.magics + VMwareState.oldMagics).contains { head.has($0) }
  }

  /// RAM, which has nothing else to know it by. As flat RAM the part above a hole would be misplaced.
  func recognizes(fileName: String) -> Bool { fileName.hasSuffix(VMwareSource.ramExtension) }

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
