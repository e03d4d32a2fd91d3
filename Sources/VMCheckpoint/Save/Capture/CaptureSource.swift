/// Where a guest is captured from: the reading half of a format.
///
/// A save or a conversion asks the source for its names, lets it capture the guest, and stores or writes what
/// it gets while ``capture(_:_:)`` has not returned. So a source can stop a VM, let it go on, and put things
/// back.
package protocol CaptureSource: Hashable, Sendable {
  /// What the snapshot, the VM and the snapshot's `source` are called unless the request says.
  var names: CaptureNames { get }

  /// The file that is read, if it is one: it must not belong to the store.
  var path: String? { get }

  /// All that is read, as far as it is known before: files, and directories whose files are read.
  var readPaths: [String] { get }

  /// Captures the guest, and calls `use` once with it.
  ///
  /// - Returns: What `use` returned.
  /// - Throws: ``VMCheckpointError``, what `use` throws among others. Nothing of the capture is left.
  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome
}

extension CaptureSource {
  package var readPaths: [String] { [path].compactMap { $0 } }
}

/// Where a captured guest goes: a store, or a file in another format.
package protocol CaptureDestination {
  /// The store; there may be none yet. `nil`: the guest does not go to a store.
  var storePath: String? { get }

  /// A directory where RAM that must be put down for a moment has room.
  ///
  /// - Throws: ``VMCheckpointError`` when there is no such directory.
  func spoolDirectory() throws(VMCheckpointError) -> String

  /// Waits for what the destination waits for, and does and checks all that needs no source.
  ///
  /// - Throws: ``VMCheckpointError`` when the guest cannot go there.
  func prepare() throws(VMCheckpointError)

  /// Stores what it can of a guest's RAM before the guest is stopped. Called after ``prepare()``.
  ///
  /// - Returns: `nil`: the destination has no use for that.
  /// - Throws: ``VMCheckpointError``; the guest need not be stopped then.
  func storeCandidates(_ ram: RunningRAM) throws(VMCheckpointError) -> RunningRAMReport?
}

extension CaptureDestination {
  package func storeCandidates(
    _ ram: RunningRAM
  ) throws(VMCheckpointError) -> RunningRAMReport? { nil }
}

/// What a source calls what is saved from it.
package struct CaptureNames: Hashable, Sendable {
  /// A snapshot without a name is named after this and the time.
  package var snapshot: String
  /// The VM, if the request does not name it.
  package var vm: String
  /// In the column `snapshot.source`: the format and the path.
  package var description: String

  package init(snapshot: String, vm: String, description: String) {
    self.snapshot = snapshot
    self.vm = vm
    self.description = description
  }
}

/// What a source may use while it captures a guest.
package struct CaptureContext {
  /// What is asked of the save beside the source. Its names and tags are checked.
  package let request: SaveRequest
  package let control: OperationControl
  private let destination: any CaptureDestination
  private let pause = Pause()

  private final class Pause {
    var report: LivePause?
  }

  init(
    request: SaveRequest,
    control: OperationControl,
    destination: any CaptureDestination
  ) {
    self.request = request
    self.control = control
    self.destination = destination
  }

  /// Where the snapshot goes; there may be no store yet. `nil`: the guest does not go to a store.
  package var storePath: String? { destination.storePath }

  /// A directory where RAM that must be put down for a moment has room: the store's, or the target's.
  ///
  /// - Throws: ``VMCheckpointError`` when there is no such directory.
  package func spoolDirectory() throws(VMCheckpointError) -> String {
    try destination.spoolDirectory()
  }

  /// Whether overlays are to be looked for in what the source has.
  package var looksForOverlays: Bool {
    request.findsOverlays && request.overlays == OverlayDocument(guestOSID: nil, records: [])
  }

  /// Waits for other saves to end, and does all of a save that needs no source. A source that stops a
  /// VM calls it first, and then need not wait any more.
  ///
  /// - Throws: ``VMCheckpointError`` as ``Store/save(_:control:)``.
  package func takeTurn() throws(VMCheckpointError) { try destination.prepare() }

  /// Lets the destination read a guest's RAM while the guest runs, so that it is stopped for less. RAM is read once
  /// more then. As ``CaptureDestination/storeCandidates(_:)``.
  package func storeCandidates(
    _ ram: RunningRAM
  ) throws(VMCheckpointError) -> RunningRAMReport? {
    try destination.storeCandidates(ram)
  }

  /// Notes for how long a VM was stopped; `nil` when it did not run before or does not go on.
  package func note(_ pause: LivePause?) { self.pause.report = pause }

  /// What was noted last.
  var livePause: LivePause? { pause.report }
}

/// Overlays that a source shows, so that nobody need describe them.
package struct FoundOverlays {
  package var document: OverlayDocument
  /// What they were found in, in the column `overlay_origin.origin`: a few lower-case words with hyphens.
  package var origin: String

  package init(_ document: OverlayDocument, origin: String) {
    self.document = document
    self.origin = origin
  }
}

/// A guest as a source has captured it.
package struct CapturedGuest {
  /// Throws when the snapshot must not be completed.
  package typealias Check = () throws(VMCheckpointError) -> Void
  /// The same, called by several threads.
  package typealias ConcurrentCheck = @Sendable () throws(VMCheckpointError) -> Void

  /// What the VMM calls the VM, if it does; the source's names count otherwise.
  package var vmName: String?
  /// Where RAM lies; `nil` when that is known only at a stream's end.
  package var layout: RAMLayout?
  /// In the VMM's order, before those of the request.
  package var deviceStates: [DeviceState] = []
  /// Reads a page of RAM as it was captured; `nil`: the source can only be read once and in order. A source that
  /// has it can be read again as well, by another reader.
  package var readPage: ((PFN) throws(VMCheckpointError) -> PageContents?)?
  /// The pages that the source leaves out, in `layout`: their content is unknown. The reader gives zeros for
  /// them.
  package var absent = AbsentPages()
  /// The overlays that the source shows; `nil`: it shows none, and those of the request count.
  package var overlays: FoundOverlays?
  /// Makes the reader of RAM. Its parameter: the PFNs that must be read even in a hole, ascending.
  package var makeReader: ([UInt64]) throws(VMCheckpointError) -> any RAMReader
  /// Called when all of RAM was read, right before the snapshot is made complete; what it throws fails
  /// the save.
  package var checkBeforeCompletion: Check?
  /// Called often while RAM is read; what it throws fails the save.
  package var checkWhileStopped: ConcurrentCheck?
  /// Called once, when all of RAM was read into memory: the guest may go on, and RAM may change. Only where
  /// ``CaptureContext/storeCandidates(_:)`` was called before; and not when too much had changed to be kept.
  package var letGoOn: Check?

  package init(
    layout: RAMLayout?,
    makeReader: @escaping ([UInt64]) throws(VMCheckpointError) -> any RAMReader
  ) {
    self.layout = layout
    self.makeReader = makeReader
  }

  /// A guest whose RAM is in files.
  ///
  /// - Parameter placement: Where `layout` is in the files; `nil`: they are one flat RAM file.
  package init(layout: RAMLayout, placement: RAMPlacement? = nil, files: OpenRAMFiles) {
    let placement = placement ?? RAMPlacement(flat: layout)
    self.init(layout: layout) { keptPFNs in
      FileRAMReader(files, layout: layout, placement: placement, keptPFNs: keptPFNs)
    }
    readPage = { pfn throws(VMCheckpointError) in try files.page(at: pfn, placement) }
  }
}
