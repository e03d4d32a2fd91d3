public import VMCheckpoint

/// What libvirt saves domains as: `virsh save`, managed saves, the memory of external snapshots.
struct LibvirtSaveImage: MemoryFormat {
  let name = "libvirt-save"
  let summary = "A save image of libvirt (virsh save, managed save), with RAM and device state"
  let form: RestoreFormat? = .libvirtSave
  let readsStreams = true

  func recognizes(_ head: FileHead) -> Bool {
    head.has(LibvirtSaveHeader.magic) || head.has(LibvirtSaveHeader.partialMagic)
  }

  func input(_ source: SourceReference) -> RAMInput {
    switch source.place {
    case .path(let path): .libvirtSave(.file(path: path))
    case .standardInput(let fileDescriptor):
      .libvirtSave(.descriptor(fileDescriptor, name: "stdin"))
    }
  }
}

extension RAMInput {
  /// A libvirt save image: RAM, device state, and the domain's XML. The layout as of a migration stream.
  public static func libvirtSave(_ source: QEMUStreamSource) -> RAMInput {
    RAMInput(LibvirtSaveSource(source: source))
  }
}

extension RestoreFormat {
  /// A libvirt save image that is not compressed, for `virsh restore`.
  public static let libvirtSave = RestoreFormat(LibvirtSaveForm())

  /// The same, with this XML of the domain in place of the one that the guest was saved with.
  public static func libvirtSave(replacingXML xml: [UInt8]) -> RestoreFormat {
    RestoreFormat(LibvirtSaveForm(xml: xml))
  }
}
