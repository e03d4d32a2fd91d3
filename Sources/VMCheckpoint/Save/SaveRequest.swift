/// How the flat RAM is laid out in guest-physical addresses.
public enum RAMLayoutSource: Sendable, Hashable {
  /// One region from GPA 0, as large as the input.
  case contiguous

  /// The layout of a QEMU machine with as much RAM as the input, or as `ramByteCount` says. A stream
  /// needs `ramByteCount` because its size is known only at its end.
  case qemu(QEMUMachine, ramByteCount: UInt64?)

  /// The caller knows the regions.
  case regions(RAMLayout)
}

/// Which snapshot a new one descends from.
public enum ParentChoice: Sendable, Hashable {
  /// The newest snapshot of the same VM, if there is one.
  case newestOfSameVM

  /// This one, whichever VM it belongs to.
  case snapshot(SnapshotReference)

  /// None.
  case none
}

/// What `save` is to store.
public struct SaveRequest: Sendable {
  /// Where RAM is read from.
  public var input: RAMInput
  /// Where the bytes of `input` lie in guest-physical addresses.
  public var layout: RAMLayoutSource

  /// `nil`: the source's name and the time in UTC.
  public var name: String?

  /// `nil`: the source's name.
  public var vm: String?

  /// Whose pages are looked at first, and what `NAME~1` means.
  public var parent: ParentChoice
  /// Keys and values by the rules of ``SnapshotTag``.
  public var tags: [String: String]

  /// The overlays that covered RAM when it was captured.
  public var overlays: OverlayDocument

  /// Whether overlays that the source shows become records, unless ``overlays`` has some.
  public var findsOverlays: Bool

  /// In the order in which the VMM wants them back.
  public var deviceStates: [DeviceState]

  /// How pages that are new are compressed.
  public var compression: ChunkCompression

  /// Makes one with these values.
  public init(
    input: RAMInput,
    layout: RAMLayoutSource = .contiguous,
    name: String? = nil,
    vm: String? = nil,
    parent: ParentChoice = .newestOfSameVM,
    tags: [String: String] = [:],
    overlays: OverlayDocument = OverlayDocument(guestOSID: nil, records: []),
    findsOverlays: Bool = true,
    deviceStates: [DeviceState] = [],
    compression: ChunkCompression = .default
  ) {
    self.input = input
    self.layout = layout
    self.name = name
    self.vm = vm
    self.parent = parent
    self.tags = tags
    self.overlays = overlays
    self.findsOverlays = findsOverlays
    self.deviceStates = deviceStates
    self.compression = compression
  }
}

/// What `save` stored.
public struct SaveResult: Sendable, Codable, Hashable {
  /// The snapshot's name, given or made.
  public var name: String
  /// The snapshot's UUID, in lower case.
  public var uuid: String
  /// The VM that the snapshot belongs to.
  public var vm: String

  /// The parent's name.
  public var parent: String?

  /// The guest's RAM.
  public var ramByteCount: UInt64

  /// Pages that are not zero.
  public var storedPageCount: UInt64
  /// Pages whose content is unknown, because the source leaves them out.
  public var absentPageCount: UInt64

  /// Of the stored pages, pages whose content no snapshot had before, each content counted once.
  public var newPageCount: UInt64

  /// What the new pages take in the store, compressed.
  public var newStoredByteCount: UInt64

  /// How many overlays the snapshot has, at all PFNs together.
  public var overlayCount: Int
  /// How many device states the snapshot has.
  public var deviceStateCount: Int

  /// How the new pages were compressed.
  public var compression: ChunkCompression

  /// The snapshot's digest, in hexadecimal: equal for snapshots that hold the same RAM, overlays
  /// and device state.
  public var digest: String

  /// Wall time, waiting for other operations included.
  public var durationSeconds: Double

  /// For how long a VM that was saved live was stopped; `nil` when it did not run before, or does
  /// not go on, or was not saved live.
  public var pausedSeconds: Double? = nil
  /// How that was kept short; `nil` as ``pausedSeconds``.
  public var pauseMethod: PauseMethod? = nil

  /// Where the time went, added up over threads. `read` and `scan` take all RAM outside holes,
  /// `digest` and `look-up` the pages that are not zero, and `compress` new ones. `write` and `sync`
  /// take the chunks made of these.
  public var stages: [StageTime]
}
