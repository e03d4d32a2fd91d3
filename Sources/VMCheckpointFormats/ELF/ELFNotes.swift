import VMCheckpoint

/// All notes of an ELF core, with what is needed to write them again.
///
/// A snapshot keeps them as a device state, in a small ELF core that has notes and no RAM, which `readelf -n`
/// shows. The notes' bytes are exactly those of the source.
struct ELFNotes: Hashable {
  /// The device state's name and format.
  static let stateFormat = "elf-notes"
  static let stateVersion: UInt32 = 1

  var machine: ELFHeader.Machine
  var bytes: [UInt8]
  /// 4 or 8.
  var alignment: Int

  /// Notes of no machine but the usual one.
  static let none = ELFNotes(machine: .x86_64, bytes: [], alignment: 4)

  /// The notes, taken apart.
  ///
  /// A segment may say that its notes are aligned to 8 when they are to 4: what can be read counts.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  func all() throws(VMCheckpointError) -> [ELFNote] {
    do throws(VMCheckpointError) {
      return try ELFNote.all(in: bytes, alignment: alignment)
    } catch {
      guard alignment != 4, let notes = try? ELFNote.all(in: bytes, alignment: 4) else {
        throw error
      }
      return notes
    }
  }

  /// Appends a note.
  mutating func append(_ note: ELFNote) { note.append(to: &bytes, alignment: alignment) }

  // MARK: Device state

  var deviceState: DeviceState {
    let offset = UInt64(ELFHeader.Width.bits64.headerByteCount + Self.headerByteCount)
    var data = ELFHeader(machine: machine, programHeaderCount: 1).encoded
    programHeader(fileOffset: offset).append(to: &data)
    return DeviceState(
      name: Self.stateFormat,
      format: Self.stateFormat,
      version: Self.stateVersion,
      data: data + bytes
    )
  }

  private static let headerByteCount = ELFHeader.Width.bits64.programHeaderByteCount

  /// Reads what ``deviceState`` has made.
  ///
  /// - Parameter title: What messages call the snapshot.
  /// - Throws: ``VMCheckpointError``: `invalidData` for another version, `corrupt` for anything else.
  init(_ state: DeviceState, of title: String) throws(VMCheckpointError) {
    guard state.version == Self.stateVersion else {
      throw VMCheckpointError(
        .invalidData,
        "\(title): the version of device state \(quotedName(state.name)) is unknown",
        hint: "use a newer vmckpt"
      )
    }
    do throws(VMCheckpointError) {
      var file = DumpBytes(state.data)
      self = try ELFCore(reading: &file, requiresRAM: false).notes
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "\(title): its device state \(quotedName(state.name)) \(error.message)"
      )
    }
  }

  init(machine: ELFHeader.Machine, bytes: [UInt8], alignment: Int) {
    self.machine = machine
    self.bytes = bytes
    self.alignment = alignment
  }

  /// The program header of these notes at `fileOffset`.
  func programHeader(fileOffset: UInt64) -> ELFProgramHeader {
    ELFProgramHeader(
      type: ELFProgramHeader.Kind.note,
      flags: 0,
      fileOffset: fileOffset,
      address: 0,
      byteCount: UInt64(bytes.count),
      alignment: UInt64(alignment == 4 ? 0 : alignment)
    )
  }
}
