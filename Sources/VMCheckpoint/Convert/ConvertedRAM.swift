/// The RAM of a captured guest on its way into a form. One thread uses it.
///
/// Windows of RAM come in ascending order of PFN, whatever the source. What needs another order, or more than one
/// pass over a source that can be read only once, goes through a temporary file without a name.
final class ConvertedRAM: RestorableRAM {
  /// Where RAM lies.
  let layout: RAMLayout
  /// Retargeted as the target asks.
  private(set) var overlays: StoredOverlays
  private let guest: PreparedGuest
  private let treatment: OverlayTreatment
  /// In ascending order of PFN; known when the form is planned.
  private(set) lazy var patches = RAMPatch.patches(for: overlays, treatment: treatment)
  private let spoolDirectory: String
  private let clock: StageClock<ConvertStage>
  private let control: OperationControl
  /// RAM as it was captured, if it had to be put down.
  private var spool: SpooledRAM?
  /// Bare RAM beneath the patches, as the last pass has shown it.
  private var underlays: [UInt64: PageContents] = [:]
  /// Of bare RAM, in the last pass.
  private(set) var nonzeroPageCount: UInt64 = 0

  /// Reads all of a source whose layout is known only at its end.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidData` for overlays that do not fit RAM; others that reading throws.
  init(
    _ guest: PreparedGuest,
    target: RestoreTarget,
    spoolDirectory: String,
    clock: StageClock<ConvertStage>,
    control: OperationControl
  ) throws {
    self.guest = guest
    self.spoolDirectory = spoolDirectory
    self.clock = clock
    self.control = control
    treatment = target.overlays
    if let known = guest.layout {
      layout = known
    } else {
      let spooled = try SpooledRAM(
        guest.makeReader(
          keptPFNs: Set(guest.overlays.records.map(\.overlay.pfn.rawValue)).sorted()
        ),
        in: spoolDirectory,
        clock: clock,
        control: control
      )
      layout = spooled.layout
      spool = spooled
    }
    var overlays = StoredOverlays(
      try guest.overlays.validated(in: layout),
      guestOSID: guest.overlays.guestOSID,
      layout: layout
    )
    try overlays.retarget(
      tscFrequencyHz: target.tscFrequencyHz,
      cpuVendor: target.cpuVendor
    )
    self.overlays = overlays
  }

  /// Leaves overlays to the VMM that lays them over RAM itself. Called once the form is planned, before RAM is
  /// read or ``patches`` are.
  func leaveOverlays(to writer: any RestorationWriter) {
    overlays.leave(to: writer.leavesToVMM)
  }

  // MARK: Reading

  /// A page of bare RAM, at any time.
  func barePage(at pfn: PFN) throws -> PageContents {
    switch guest.substitution.given(at: pfn) {
    case .zero: return .zero
    case .page(let contents): return contents
    case .unknown, nil: break
    }
    if !guest.isRereadable { try putDown() }
    return try (spool.map { try $0.page(at: pfn) } ?? guest.page(at: pfn)) ?? .zero
  }

  /// The pages that overlays may be laid over, also where the source has a hole; ascending.
  private var keptPFNs: [UInt64] {
    Set(overlays.entries.map(\.overlay.pfn)).filter(layout.contains).map(\.rawValue).sorted()
  }

  /// Puts RAM down if it can be read only once.
  private func putDown() throws {
    guard spool == nil, !guest.isRereadable else { return }
    spool = try SpooledRAM(
      guest.makeReader(keptPFNs: keptPFNs),
      in: spoolDirectory,
      clock: clock,
      control: control
    )
  }

  /// Calls `body` with bare RAM, and overlays laid over it by then.
  ///
  /// - Parameter showBare: Sees windows before overlays are laid over them.
  private func forEachWindow(
    showBare: ((RAMWindow) -> Void)? = nil,
    _ body: (RAMWindow) throws -> Void
  ) throws {
    let keptPFNs = treatment == .apply ? keptPFNs : []
    let reader =
      try spool.map { $0.makeReader(keptPFNs: guest.substitution.pfns + keptPFNs) }
      ?? guest.makeReader(keptPFNs: keptPFNs)
    let (substitution, clock) = (guest.substitution, clock)
    var progress = ProgressReporter(
      control,
      phase: "converting",
      totalByteCount: reader.totalByteCount
    )
    nonzeroPageCount = 0
    var rest = patches[...]
    try WindowPass.run(control) { window throws(VMCheckpointError) in
      let start = MonotonicClock.nowSeconds
      guard try reader.readWindow(into: window) else { return false }
      substitution.apply(to: window)
      let byteCount = window.pageCount * Page.byteCount
      clock.add(.read, seconds: MonotonicClock.nowSeconds - start, byteCount: byteCount)
      clock.measure(.scan, byteCount: byteCount) { window.findZeroPages() }
      return true
    } _: { window in
      for index in 0..<window.pageCount where !window.isZero[index] { nonzeroPageCount += 1 }
      showBare?(window)
      while let patch = rest.first, patch.pfn.rawValue < window.endPFN {
        rest.removeFirst()
        // All PFNs of patches are visited.
        if patch.pfn.rawValue >= window.firstPFN { apply(patch, to: window) }
      }
      try body(window)
      progress.report(completedByteCount: window.sourceEndOffset)
    }
  }

  private func apply(_ patch: RAMPatch, to window: RAMWindow) {
    let index = Int(patch.pfn.rawValue - window.firstPFN)
    let page = window.page(index)
    underlays[patch.pfn.rawValue] = PageContents(copying: UnsafeRawBufferPointer(page))
    patch.withBytes { page.copyMemory(from: $0) }
    window.isZero[index] = ZeroPage.isZero(page.baseAddress!)
  }

  // MARK: RestorableRAM

  func write(
    _ form: RestoredForm,
    to outputs: [OutputFile],
    observer: PageObserver?
  ) throws {
    for (output, byteCount) in zip(outputs, form.fileByteCounts) {
      try output.setByteCount(byteCount)
    }
    for part in form.parts {
      try part.withBytes { bytes throws(VMCheckpointError) in
        try outputs[0].write(bytes, at: part.offset)
      }
    }
    let showBare = observer.map { observer in
      { (window: RAMWindow) in
        window.forEachNonzeroRun { firstPFN, pages in observer(firstPFN, pages) }
      }
    }
    try BackgroundWriteback.run(outputs.map(\.descriptor)) { writeback in
      try forEachWindow(showBare: showBare) { window in
        try window.forEachNonzeroRun { firstPFN, pages in
          try clock.measure(.write, byteCount: pages.count) {
            try write(form.placement, firstPFN, pages) { file, bytes, offset in
              try outputs[file].write(bytes, at: offset)
            }
          }
          writeback.note(byteCount: pages.count)
        }
      }
    }
  }

  func write(
    _ form: RestoredForm,
    inOrderTo sink: any FlatRAMSink,
    isLastPass: Bool
  ) throws {
    if !isLastPass { try putDown() }
    guard SectionWriter.isAscending(form) else {
      try writeThroughFile(form, to: sink)
      return
    }
    var writer = SectionWriter(form, to: sink)
    try forEachWindow { window in
      let pages = UnsafeRawBufferPointer(
        rebasing: window.bytes[..<(window.pageCount * Page.byteCount)]
      )
      try clock.measure(.write, byteCount: pages.count) {
        try writer.write(firstPFN: window.firstPFN, pages)
      }
    }
    try writer.finish()
  }

  /// Makes a form whose RAM is in another order in a temporary file, and copies that to the stream.
  private func writeThroughFile(_ form: RestoredForm, to sink: any FlatRAMSink) throws {
    let file = try SpooledForm(byteCount: form.byteCount, in: spoolDirectory)
    for part in form.parts {
      try part.withBytes { bytes throws(VMCheckpointError) in
        try file.write(bytes, at: part.offset)
      }
    }
    try forEachWindow { window in
      try window.forEachNonzeroRun { firstPFN, pages in
        try write(form.placement, firstPFN, pages) { _, bytes, offset in
          try file.write(bytes, at: offset)
        }
      }
    }
    try clock.measure(.write, byteCount: Int(form.byteCount)) {
      try file.copy(to: sink, control.cancellation)
    }
  }

  /// Writes consecutive pages where they belong.
  private func write(
    _ placement: RAMPlacement,
    _ firstPFN: UInt64,
    _ pages: UnsafeRawBufferPointer,
    _ body: (_ file: Int, UnsafeRawBufferPointer, _ offset: UInt64) throws -> Void
  ) throws {
    let isRAM = try placement.forEachRun(
      firstPFN: firstPFN,
      pageCount: pages.count / Page.byteCount
    ) { run in
      let start = run.firstPageIndex * Page.byteCount
      let bytes = pages[start..<(start + run.pageCount * Page.byteCount)]
      try body(run.fileIndex, UnsafeRawBufferPointer(rebasing: bytes), run.fileOffset)
    }
    guard isRAM else {
      throw VMCheckpointError(
        .corrupt,
        "the page at PFN \(hexString(firstPFN)) is not in the guest's RAM"
      )
    }
  }

  func commit(_ output: OutputFile) throws {
    try clock.measure(.sync, byteCount: Int(nonzeroPageCount) * Page.byteCount) {
      try output.commit()
    }
  }

  func overlaysJSON() -> String {
    switch treatment {
    case .omit: overlays.bareDocument().encodedJSON()
    case .apply:
      overlays.appliedDocument { pfn in
        underlays[pfn.rawValue].map { CapturedUnderlay.page($0).normalized } ?? .zero
      }.encodedJSON()
    }
  }

  func checkBeforeCompletion() throws { try guest.checkBeforeCompletion?() }
}

extension RAMWindow {
  /// Calls `body` with each run of consecutive pages that are not zero.
  func forEachNonzeroRun(
    _ body: (_ firstPFN: UInt64, UnsafeRawBufferPointer) throws -> Void
  ) rethrows {
    var index = 0
    while index < pageCount {
      guard !isZero[index] else {
        index += 1
        continue
      }
      var end = index + 1
      while end < pageCount, !isZero[end] { end += 1 }
      let run = bytes[(index * Page.byteCount)..<(end * Page.byteCount)]
      try body(firstPFN + UInt64(index), UnsafeRawBufferPointer(rebasing: run))
      index = end
    }
  }
}
