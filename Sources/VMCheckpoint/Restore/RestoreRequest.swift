/// Where restored RAM goes.
public enum RAMOutput: Sendable, Hashable {
  /// A flat, sparse RAM file with mode 0600. It appears under its name only when it is complete.
  case file(path: String)

  /// A stream, written in order of file offsets, zero pages included.
  case stream(fileDescriptor: Int32)
}

/// What a guest's RAM is to become: where it is written, in which format, and what it shows.
public struct RestoreTarget: Sendable {
  /// Where RAM is written.
  public var output: RAMOutput
  /// What is written there.
  public var format: RestoreFormat
  /// Whether the written RAM shows the overlays.
  public var overlays: OverlayTreatment

  /// Where to write the overlays.json that describes the written RAM.
  public var overlaysOutputPath: String?

  /// Whether files that exist may be replaced.
  public var overwrites: Bool

  /// The frequency of the TSC that the guest will run on, for the reference TSC page.
  public var tscFrequencyHz: UInt64?

  /// The vendor of the CPU that the guest will run on, for the hypercall page.
  public var cpuVendor: CPUVendor?

  /// Makes one with these values.
  public init(
    output: RAMOutput,
    format: RestoreFormat = .raw,
    overlays: OverlayTreatment = .apply,
    overlaysOutputPath: String? = nil,
    overwrites: Bool = false,
    tscFrequencyHz: UInt64? = nil,
    cpuVendor: CPUVendor? = nil
  ) {
    self.output = output
    self.format = format
    self.overlays = overlays
    self.overlaysOutputPath = overlaysOutputPath
    self.overwrites = overwrites
    self.tscFrequencyHz = tscFrequencyHz
    self.cpuVendor = cpuVendor
  }
}

/// What `restore` is to do. The members of its target are its own as well.
@dynamicMemberLookup
public struct RestoreRequest: Sendable {
  /// Which snapshot.
  public var reference: SnapshotReference
  /// What becomes of it.
  public var target: RestoreTarget

  /// Recheck the SHA-256 of every page on its way to the output, and the snapshot's digests before.
  public var verifiesPages: Bool

  /// Where each device state is written to a file of its own name, with mode 0600; `nil`: nowhere. The directory
  /// is made when there is none.
  public var deviceStatesDirectory: String?

  /// Makes one with these values.
  public init(
    reference: SnapshotReference,
    target: RestoreTarget,
    verifiesPages: Bool = false,
    deviceStatesDirectory: String? = nil
  ) {
    self.reference = reference
    self.target = target
    self.verifiesPages = verifiesPages
    self.deviceStatesDirectory = deviceStatesDirectory
  }

  /// Makes one with these values.
  public init(
    reference: SnapshotReference,
    output: RAMOutput,
    format: RestoreFormat = .raw,
    overlays: OverlayTreatment = .apply,
    overlaysOutputPath: String? = nil,
    overwrites: Bool = false,
    tscFrequencyHz: UInt64? = nil,
    cpuVendor: CPUVendor? = nil,
    verifiesPages: Bool = false
  ) {
    self.init(
      reference: reference,
      target: RestoreTarget(
        output: output,
        format: format,
        overlays: overlays,
        overlaysOutputPath: overlaysOutputPath,
        overwrites: overwrites,
        tscFrequencyHz: tscFrequencyHz,
        cpuVendor: cpuVendor
      ),
      verifiesPages: verifiesPages
    )
  }

  /// A member of the target.
  public subscript<Member>(dynamicMember path: WritableKeyPath<RestoreTarget, Member>) -> Member {
    get { target[keyPath: path] }
    set { target[keyPath: path] = newValue }
  }
}

/// What `restore` wrote.
public struct RestoreResult: Sendable, Codable, Hashable {
  /// The snapshot's name.
  public var name: String
  /// The snapshot's UUID.
  public var uuid: String

  /// The target's path; `nil` for a stream.
  public var path: String?

  /// The size of the file.
  public var fileByteCount: UInt64

  /// Pages written that are not zero.
  public var storedPageCount: UInt64
  /// Pages whose content is unknown, and that were written as zeros.
  public var absentPageCount: UInt64

  /// Overlays that the restored RAM shows.
  public var appliedOverlayCount: Int

  /// How many device states were written to files of their own.
  public var writtenDeviceStateCount: Int

  /// Whether the SHA-256 of every page was rechecked.
  public var verifiedPages: Bool
  /// Wall time, waiting for other operations included.
  public var durationSeconds: Double

  /// Where the time went, added up over threads: `read` chunks, `decompress` them, `write` their
  /// pages, and `sync` the file.
  public var stages: [StageTime]
}

extension RestoreTarget {
  /// The file for the overlays.json, if it is asked for.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when RAM goes to the same file, else as
  ///   ``OutputFile/init(path:overwriting:shownAs:)``.
  func makeOverlaysFile() throws(VMCheckpointError) -> OutputFile? {
    guard let path = overlaysOutputPath else { return nil }
    if case .file(let ramPath) = output, try ResolvedPath.areSame(ramPath, path) {
      throw VMCheckpointError(
        .invalidArgument,
        "RAM and overlays.json cannot both go to \(quotedName(path))"
      )
    }
    return try OutputFile(path: path, overwriting: overwrites)
  }
}
