import VMCheckpoint

/// VMCOREINFO: what a Linux kernel says of itself for those who read its memory, such as the offset that it was
/// loaded with.
///
/// The kernel keeps it in RAM as a finished ELF note, at the beginning of a page: name length 11, contents'
/// length, type 0, the name padded to 12, and from byte 24 on the text, which begins with `OSRELEASE=`.
/// Sources: Linux `kernel/crash_core.c` (`update_vmcoreinfo_note`, `crash_save_vmcoreinfo_init`), RAM of four
/// boots of Linux 6.1; volatility3 looks for the same.
enum VMCoreInfo {
  static let name = "VMCOREINFO"
  /// Header and name.
  static let headByteCount = 24
  /// `VMCOREINFO_BYTES` is a page.
  static let maximumTextByteCount = Page.byteCount
  /// More than QEMU takes from its device (`MAX_GUEST_NOTE_SIZE`) is not a note.
  static let maximumNoteByteCount: UInt64 = 1 << 20
  /// The room that a note of the largest text needs.
  static let roomByteCount = headByteCount + maximumTextByteCount

  private static let nameByteCount: UInt32 = 11
  private static let beginning = Array("VMCOREINFO\0\0OSRELEASE=".utf8)

  /// How long the text of the note is that `page` begins with; `nil` when it does not begin with one.
  ///
  /// - Precondition: `page` has 4096 bytes or more.
  static func textByteCount(_ page: UnsafeRawBufferPointer) -> Int? {
    // Nearly every page ends here.
    guard page.loadUnaligned(as: UInt32.self) == nameByteCount.littleEndian else { return nil }
    let byteCount = UInt32(littleEndian: page.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    guard page.loadUnaligned(fromByteOffset: 8, as: UInt32.self) == 0,
      (1...UInt32(maximumTextByteCount)).contains(byteCount),
      page[12...].starts(with: beginning)
    else { return nil }
    return Int(byteCount)
  }

  /// The note with this text.
  static func note(_ text: some Sequence<UInt8>) -> ELFNote {
    ELFNote(name: Array(name.utf8), type: 0, contents: Array(text)[...])
  }

  /// The note that QEMU's device `vmcoreinfo` points to.
  ///
  /// - Parameter bytes: What is there.
  static func note(inGuest bytes: [UInt8]) -> ELFNote? {
    guard let note = try? ELFNote.all(in: bytes, alignment: 4).first, note.isNamed(name),
      !note.contents.isEmpty
    else { return nil }
    return note
  }
}
