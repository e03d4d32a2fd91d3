/// What `convert` is to do.
public struct ConvertRequest: Sendable {
  /// Where RAM is read from.
  public var input: RAMInput
  /// Where the bytes of `input` lie in guest-physical addresses.
  public var layout: RAMLayoutSource

  /// The overlays that covered RAM when it was captured.
  public var overlays: OverlayDocument

  /// Whether overlays that the source shows count, unless ``overlays`` has some.
  public var findsOverlays: Bool

  /// What becomes of the guest.
  public var target: RestoreTarget

  /// Files beside `input` that are read, such as an overlays.json: no target may be one of them.
  public var otherInputPaths: [String]

  /// Where RAM is put down that cannot be written in the order in which it comes; `nil`: beside the target, or in
  /// `/var/tmp` when the target is a stream.
  public var temporaryDirectory: String?

  /// Makes one with these values.
  public init(
    input: RAMInput,
    layout: RAMLayoutSource = .contiguous,
    overlays: OverlayDocument = OverlayDocument(guestOSID: nil, records: []),
    findsOverlays: Bool = true,
    target: RestoreTarget,
    otherInputPaths: [String] = [],
    temporaryDirectory: String? = nil
  ) {
    self.input = input
    self.layout = layout
    self.overlays = overlays
    self.findsOverlays = findsOverlays
    self.target = target
    self.otherInputPaths = otherInputPaths
    self.temporaryDirectory = temporaryDirectory
  }
}

/// What `convert` wrote.
public struct ConvertResult: Sendable, Codable, Hashable {
  /// The format and the path of the source.
  public var source: String
  /// The name of the target's format.
  public var format: String
  /// The target's path; `nil` for a stream.
  public var path: String?

  /// The guest's RAM.
  public var ramByteCount: UInt64
  /// The size of what was written, that of holes counted.
  public var fileByteCount: UInt64
  /// Pages of bare RAM that are not zero.
  public var storedPageCount: UInt64
  /// Pages whose content is unknown, and that were written as zeros.
  public var absentPageCount: UInt64

  /// The guest's overlays, at all PFNs together.
  public var overlayCount: Int
  /// Overlays that the written RAM shows.
  public var appliedOverlayCount: Int
  /// Device states that the target has, whole.
  public var deviceStateCount: Int

  /// Wall time.
  public var durationSeconds: Double

  /// For how long a VM was stopped; `nil` when it did not run before, or does not go on, or the source is not a
  /// VM.
  public var pausedSeconds: Double?

  /// Where the time went, added up over threads: `read` RAM, `scan` it for zeros, `write` it, and `sync` the
  /// file.
  public var stages: [StageTime]
}
