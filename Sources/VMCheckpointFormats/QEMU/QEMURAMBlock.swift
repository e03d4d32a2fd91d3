import VMCheckpoint

/// A block of guest memory in a migration stream: RAM, a ROM, a video card's memory.
struct QEMURAMBlock: Hashable {
  /// QEMU's name for it, such as `pc.ram` or `0000:00:01.0/vga.vram`; 1 to 255 bytes.
  var name: [UInt8]

  /// A multiple of 4096.
  var byteCount: UInt64

  /// Where the block begins in ``QEMURAMPages``.
  var spoolOffset: UInt64

  var pageCount: UInt64 { Page.count(inByteCount: byteCount) }

  /// For messages and for records.
  var text: String { String(decoding: name, as: UTF8.self) }

  /// The name of the page that QEMU lays over RAM for the SynIC of a virtual processor.
  ///
  /// Source: QEMU `hw/hyperv/hyperv.c`, `synic_realize`.
  ///
  /// - Returns: `nil` for other kinds.
  static func synicPageName(_ kind: OverlayKind, vp: UInt32) -> [UInt8]? {
    switch kind {
    case .synicMessage: Array("synic-\(vp)-msg-page".utf8)
    case .synicEvent: Array("synic-\(vp)-event-page".utf8)
    default: nil
    }
  }

  /// Whether this is a page of a SynIC, which has a plain name as well.
  private var isSynICPage: Bool {
    text.hasPrefix("synic-") && (text.hasSuffix("-msg-page") || text.hasSuffix("-event-page"))
  }

  /// What QEMU calls a machine's RAM where the user gave no memory backend, and what its own
  /// documentation asks users to call the backend that is to be compatible with that.
  static let defaultRAMName = "pc.ram"

  /// Blocks with a plain name that are no RAM. Devices' blocks have a path's slash in theirs.
  private static let firmwareNames: Set<String> = [
    "pc.bios", "pc.rom", "isa-bios", "system.flash0", "system.flash1", "vga.vram", "vga.rom",
    "tpm-ppi", "ramfb", "sgx-epc",
  ]

  /// Which of `blocks` are the guest's RAM.
  ///
  /// - Parameter given: Their names in the order in which they make up flat RAM, where that is known.
  /// - Returns: `nil` when that cannot be known.
  static func indicesOfRAM(_ blocks: [QEMURAMBlock], named given: [String]?) -> [Int]? {
    if let names = given {
      let indices = names.compactMap { name in
        // Machine types up to 4.0 have a backend's whole path for a name.
        blocks.firstIndex { $0.text == name }
          ?? blocks.firstIndex { $0.text == "/objects/\(name)" }
      }
      return indices.count == names.count && Set(indices).count == names.count ? indices : nil
    }
    if let index = blocks.firstIndex(where: { $0.text == defaultRAMName }) { return [index] }
    let candidates = blocks.indices.filter { index in
      // By bytes: a slash with an accent is not the Character "/".
      !blocks[index].name.contains(UInt8(ascii: "/"))
        && !firmwareNames.contains(blocks[index].text) && !blocks[index].isSynICPage
    }
    return candidates.count == 1 ? candidates : nil
  }
}
