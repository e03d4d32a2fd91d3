/// Where restored RAM goes.
public enum RAMOutput: Sendable, Hashable {
  /// A flat, sparse RAM file with mode 0600. It appears under its name only when it is complete.
  case file(path: String)

  /// A stream, written in order of file offsets, zero pages included.
  case stream(fileDescriptor: Int32)
}

/// What `restore` is to do.
public struct RestoreRequest: Sendable {
  /// Which snapshot.
  public var reference: SnapshotReference
  /// Where RAM is written.
  public var output: RAMOutput
  /// What is written there.
  public var format: RestoreFormat
  /// Whether restored RAM shows the overlays.
  public var overlays: OverlayTreatment

  /// Where to write the overlays.json that describes the restored RAM.
  public var overlaysOutputPath: String?

  /// Whether files that exist may be replaced.
  public var overwrites: Bool

  /// The frequency of the TSC that the guest will run on, for the reference TSC page.
  public var tscFrequencyHz: UInt64?

  /// The vendor of the CPU that the guest will run on, for the hypercall page.
  public var cpuVendor: CPUVendor?

  /// Recheck the SHA-256 of every page on its way to the output, and the snapshot's digests before.
  public var verifiesPages: Bool

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
    self.reference = reference
    self.output = output
    self.format = format
    self.overlays = overlays
    self.overlaysOutputPath = overlaysOutputPath
    self.overwrites = overwrites
    self.tscFrequencyHz = tscFrequencyHz
    self.cpuVendor = cpuVendor
    self.verifiesPages = verifiesPages
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

  /// Whether the SHA-256 of every page was rechecked.
  public var verifiedPages: Bool
  /// Wall time, waiting for other operations included.
  public var durationSeconds: Double

  /// Where the time went, added up over threads: `read` chunks, `decompress` them, `write` their
  /// pages, and `sync` the file.
  public var stages: [StageTime]
}
