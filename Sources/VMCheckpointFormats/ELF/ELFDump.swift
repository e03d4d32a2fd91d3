import VMCheckpoint

/// An ELF core of a guest's RAM, with its notes: what QEMU, libvirt, VirtualBox and the kernel's kdump write,
/// and what crash, drgn, volatility3 and makedumpfile open.
struct ELFDump: MemoryFormat {
  let name = "elf"
  let summary = "An ELF core of the guest's RAM, with its notes"
  let form: RestoreFormat? = .elf
  let describesLayout = true
  let readsStreams = true

  /// A core with program headers. Those of Xen have none: ``ForeignFormat`` names them.
  func recognizes(_ head: FileHead) -> Bool {
    guard head.has(ELFHeader.magic), let width = head.byte(at: 4), let order = head.byte(at: 5),
      (1...2).contains(width), (1...2).contains(order)
    else { return false }
    let isBigEndian = order == 2
    let countOffset = width == 2 ? 56 : 44
    return head.has(isBigEndian ? [0, 4] : [4, 0], at: 16) && head.byte(at: countOffset + 1) != nil
      && !head.has([0, 0], at: countOffset)
  }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .elf(path: path)
    case .standardInput(let fileDescriptor): .elf(fileDescriptor: fileDescriptor)
    }
  }
}
