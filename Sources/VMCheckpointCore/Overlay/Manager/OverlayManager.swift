internal import Synchronization

/// Keeps a running guest's overlays: lays each over RAM, keeps what lies beneath, and puts it
/// back.
///
/// A VMM owns one per virtual machine and calls it when the guest writes one of the registers of
/// ``OverlayMSR``:
///
///     let manager = OverlayManager(memory: memory)
///     try manager.add(overlay)                            // the guest enables it
///     try manager.move(.vpAssist, vp: 0, from: a, to: b)  // the guest writes another PFN
///     try manager.remove(.vpAssist, vp: 0, at: b)         // the guest disables it
///
/// or lets ``registerChanged(from:to:vp:parameters:)`` find out which of these it is.
///
/// To checkpoint: stop the vCPUs, ``pause()``, save RAM, which is bare now, and ``overlays``; then
/// ``resume()`` and start the vCPUs. To restore: load RAM, ``init(restoring:in:)``,
/// ``resume()``, start the vCPUs.
///
/// ## State
///
/// Each PFN with overlays has a stack, ordered by priority. A stack is *applied* (RAM shows its
/// first overlay, the manager holds the underlay) or *bare* (RAM shows the underlay).
///
///                 first add while running
///     no stack ───────────────────────────▶ applied ◀──── resume() ────┐
///         │                                   │                        │
///         │ first add while paused            └────── pause() ──────▶ bare
///         └────────────────────────────────────────────────────────────▲
///
/// Adding to and removing from a bare stack changes records only. A stack outside RAM, which only
/// a reference TSC page can have, is never applied.
///
/// Pages of kinds that the guest may write are read back before they are covered, moved or
/// removed, so that what the guest wrote into them is kept. What a guest writes into the other
/// kinds' pages is lost when they are covered or dropped: their contents follow from their
/// parameters.
///
/// ## Failure
///
/// Every operation checks its arguments first and throws a ``VMCheckpointError`` without having
/// changed anything. An error that the guest memory throws is passed on; what holds then is
/// stated with each operation.
///
/// ## Threads
///
/// Every operation may be called from any thread and holds the manager's lock while it runs, also
/// while it calls the guest memory, which therefore must not call the manager. The lock does not
/// stop vCPUs: stop them around ``pause()`` and ``resume()``.
public final class OverlayManager<Memory: GuestMemory>: Sendable {
  /// The RAM that the overlays cover.
  public let memory: Memory

  private let table: Mutex<OverlayTable>

  /// Runs `body` with the state and the memory, while nobody else changes either.
  package func withTable<Result>(
    _ body: (inout OverlayTable, Memory) throws -> Result
  ) throws -> Result where Result: Sendable {
    try table.withLock { try body(&$0, memory) }
  }

  /// A running manager without overlays.
  public init(memory: Memory) {
    self.memory = memory
    table = Mutex(OverlayTable())
  }

  /// A paused manager with the overlays of `plan`, for RAM that was loaded as the plan describes
  /// it: ``resume()`` applies them.
  ///
  /// Where the plan gives an underlay, RAM shows the overlay already, and the manager takes the
  /// underlay from the plan. Where it says that the underlay is unknown, the bytes that are baked
  /// into RAM count as the underlay: they return when the last overlay leaves, and an overlay
  /// covers only ``Overlay/determinedByteCount`` of them.
  ///
  /// `memory` is neither read nor written.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when `memory` has no page
  ///   where the plan has RAM.
  public init(restoring plan: OverlayPlan, in memory: Memory) throws(VMCheckpointError) {
    for stack in plan.stacks where stack.isInRAM && !memory.contains(stack.pfn) {
      throw VMCheckpointError(
        .invalidArgument,
        "the \(stack.overlays[0]) is outside the guest's RAM"
      )
    }
    self.memory = memory
    table = Mutex(OverlayTable(restoring: plan))
  }

  /// Whether the last of ``pause()`` and ``resume()`` to succeed was the former.
  public var isPaused: Bool { table.withLock { $0.isPaused } }

  /// The overlays in order of PFN and priority, with what the guest wrote into them.
  ///
  /// Reads the pages that RAM shows and the guest may write; while vCPUs run, the guest may
  /// change them meanwhile. Once ``pause()`` has returned, no memory is read.
  ///
  /// - Throws: What the guest memory throws. Nothing has changed then.
  public var overlays: [Overlay] {
    get throws { try records.map(\.overlay) }
  }

  /// ``overlays`` with what RAM shows at each PFN at this moment. The first record of a PFN gives
  /// the underlay.
  ///
  /// RAM and these records together make a snapshot at any time, paused or not.
  ///
  /// - Throws: What the guest memory throws. Nothing has changed then.
  public var records: [OverlayRecord] {
    get throws { try table.withLock { try $0.records(in: memory) } }
  }

  /// Adds an overlay. It becomes active if it precedes those at its PFN, whenever they came.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when the PFN is not RAM
  ///   (a reference TSC page may be anywhere), there is such an overlay at the PFN already, or a
  ///   TSC frequency is out of range. Or what the guest memory throws. Nothing has changed in
  ///   either case.
  public func add(_ overlay: Overlay) throws {
    try table.withLock { try $0.add(overlay, to: memory) }
  }

  /// Removes an overlay. If it was active, the next one becomes active, or the underlay returns.
  ///
  /// - Parameter vp: Ignored for kinds that belong to the VM.
  /// - Returns: The overlay with what the guest wrote into it.
  /// - Throws: ``VMCheckpointError`` with the code `notFound` when there is no such overlay. Or
  ///   what the guest memory throws. Nothing has changed in either case.
  @discardableResult
  public func remove(_ kind: OverlayKind, vp: UInt32 = 0, at pfn: PFN) throws -> Overlay {
    try table.withLock { try $0.remove(OverlayIdentity(kind, vp: vp), at: pfn, from: memory) }
  }

  /// Moves an overlay with its contents: adds it at `destination`, then removes it at `source`.
  /// Moving to where it is changes nothing.
  ///
  /// - Parameter vp: Ignored for kinds that belong to the VM.
  /// - Throws: ``VMCheckpointError`` with the code `notFound` when there is no such overlay at
  ///   `source`, or as ``add(_:)`` does for `destination`; nothing has changed then. Or what the
  ///   guest memory throws: then nothing has changed either, except when the overlay was added at
  ///   `destination` and neither removing it at `source` nor undoing the addition succeeded. It
  ///   is at both then, in RAM as in the records, and can be removed at either.
  public func move(
    _ kind: OverlayKind,
    vp: UInt32 = 0,
    from source: PFN,
    to destination: PFN
  ) throws {
    try table.withLock {
      try $0.move(OverlayIdentity(kind, vp: vp), from: source, to: destination, in: memory)
    }
  }

  /// Drops all overlays, so that RAM is bare. Does nothing when paused.
  ///
  /// - Throws: What the guest memory throws. The manager is not paused then; stacks before the
  ///   failure, in order of PFN, are bare, the others applied. Pause again to go on, or resume to
  ///   apply those that are bare.
  public func pause() throws {
    try table.withLock { try $0.pause(memory) }
  }

  /// Applies all overlays over what RAM holds now. Does nothing when running.
  ///
  /// - Throws: What the guest memory throws. The manager is as paused as before; stacks before
  ///   the failure, in order of PFN, are applied, the others as they were. Resume again to go on,
  ///   or pause to drop them.
  public func resume() throws {
    try table.withLock { try $0.resume(memory) }
  }
}
