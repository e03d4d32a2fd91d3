import Glibc
import SystemPackage

extension ConvertRequest {
  /// Captures the guest, and writes it in the target's format, through no store.
  ///
  /// - Throws: ``VMCheckpointError``. A target file is as it was before then; of a stream, part may be written.
  public func run(
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> ConvertResult {
    let startSeconds = MonotonicClock.nowSeconds
    try target.format.form.check(target)
    try requireInputsKept()
    let destination = ConversionDestination(request: self)
    // Before a long stream is read, or a VM stopped.
    try destination.prepare()
    let overlaysFile = try target.makeOverlaysFile()
    let context = CaptureContext(
      request: SaveRequest(
        input: input,
        layout: layout,
        overlays: overlays,
        findsOverlays: findsOverlays
      ),
      control: control,
      destination: destination
    )
    var result = try input.source.capture(context) { captured throws(VMCheckpointError) in
      let guest = try PreparedGuest(context.request, captured)
      do {
        let conversion = try Conversion(
          request: self,
          guest: guest,
          spoolDirectory: destination.spoolDirectory(),
          control: control
        )
        return try conversion.run(overlaysFile)
      } catch let error as VMCheckpointError {
        throw error
      } catch {
        throw VMCheckpointError(.inputOutput, "cannot write the guest: \(error)")
      }
    }
    result.pausedSeconds = context.livePause?.seconds
    result.durationSeconds = MonotonicClock.nowSeconds - startSeconds
    return result
  }

  /// Checks that nothing is written over what is read: in a directory that is read, any of its files.
  private func requireInputsKept() throws(VMCheckpointError) {
    let given = input.source.readPaths + otherInputPaths
    let inputs = given + given.flatMap { FilesOfDirectory.paths(in: $0, maximumCount: 4096) }
    var outputs = [target.overlaysOutputPath].compactMap { $0 }
    switch target.output {
    case .file(let path): outputs.append(path)
    case .stream(let fileDescriptor):
      for input in inputs where ResolvedPath.leads(input, toFileOf: fileDescriptor) {
        throw VMCheckpointError(
          .invalidArgument,
          "standard output is \(quotedName(input)), which is read, and cannot be written as well",
          hint: "write to another file"
        )
      }
    }
    for output in outputs {
      for input in inputs where try ResolvedPath.areSame(input, output) {
        throw VMCheckpointError(
          .invalidArgument,
          "\(quotedName(output)) is read, and cannot be written as well",
          hint: "give another path"
        )
      }
    }
  }
}

/// Where a guest goes that is converted.
struct ConversionDestination: CaptureDestination {
  let request: ConvertRequest

  var storePath: String? { nil }

  func spoolDirectory() throws(VMCheckpointError) -> String {
    if let directory = request.temporaryDirectory { return directory }
    switch request.target.output {
    case .stream: return "/var/tmp"
    case .file(let path):
      return FilePath(try ResolvedPath.of(path)).removingLastComponent().string
    }
  }

  /// Checks that the target can be made. A directory is checked by its form.
  func prepare() throws(VMCheckpointError) {
    guard case .file(let path) = request.target.output, !request.target.format.form.isDirectory
    else { return }
    // It is gone with the object.
    _ = try OutputFile(path: path, overwriting: request.target.overwrites)
  }
}

/// One conversion, while the guest is captured.
private struct Conversion {
  let request: ConvertRequest
  let guest: PreparedGuest
  let ram: ConvertedRAM
  let control: OperationControl
  let clock = StageClock<ConvertStage>()

  init(
    request: ConvertRequest,
    guest: PreparedGuest,
    spoolDirectory: String,
    control: OperationControl
  ) throws {
    self.request = request
    self.guest = guest
    self.control = control
    ram = try ConvertedRAM(
      guest,
      target: request.target,
      spoolDirectory: spoolDirectory,
      clock: clock,
      control: control
    )
  }

  func run(_ overlaysFile: OutputFile?) throws -> ConvertResult {
    let (target, form) = (request.target, request.target.format.form)
    let source = request.input.source.names.description
    let writer = try form.plan(
      ConvertedGuest(title: "SOURCE \(quotedName(source))", guest: guest, ram: ram)
    )
    ram.leaveOverlays(to: writer)
    let keptStates = guest.deviceStates.filter { form.keeps($0) }
    for warning in warnings(keptStates) { control.onWarning?(warning) }
    let fileByteCount = try writer.write(
      Restoration(
        target: target,
        control: control,
        layout: ram.layout,
        ram: ram,
        overlays: ram.overlays,
        patches: ram.patches,
        overlaysFile: overlaysFile
      )
    )
    for warning in guest.substitution.warnings() { control.onWarning?(warning) }
    var path: String?
    if case .file(let targetPath) = target.output { path = targetPath }
    return ConvertResult(
      source: source,
      format: form.name,
      path: path,
      ramByteCount: ram.layout.byteCount,
      fileByteCount: fileByteCount,
      storedPageCount: ram.nonzeroPageCount,
      absentPageCount: guest.absent.pageCount,
      overlayCount: ram.overlays.entries.count,
      appliedOverlayCount: target.overlays == .apply
        ? ram.overlays.active.count { !$0.isLeftToVMM } : 0,
      deviceStateCount: keptStates.count,
      durationSeconds: 0,
      pausedSeconds: nil,
      stages: clock.times
    )
  }

  /// What of the guest the target will not have.
  private func warnings(_ keptStates: [DeviceState]) -> [String] {
    var warnings: [String] = []
    let form = request.target.format.form
    if !guest.absent.isEmpty {
      warnings.append(
        "\(guest.absent.pageCount) pages of the guest are absent, because the source leaves them out; they are "
          + "written as zeros"
      )
    }
    if let warning = guest.absentUnderlayWarning(
      Set(ram.overlays.entries.map(\.overlay.pfn)).sorted()
    ) {
      warnings.append(warning)
    }
    let lost = guest.deviceStates.filter { !form.keeps($0) }.map { quotedName($0.name) }
    if !lost.isEmpty {
      let names = lost.prefix(8).joined(separator: ", ") + (lost.count > 8 ? ", …" : "")
      warnings.append(
        "the format \(form.name) does not keep \(lost.count == 1 ? "the device state" : "the device states") "
          + names
      )
    }
    // Where the source describes them, they are in what is kept of it.
    let isDescribed = guest.overlayOrigin != nil && lost.isEmpty
    let count = ram.overlays.entries.count
    if count > 0, !isDescribed, request.target.overlaysOutputPath == nil {
      warnings.append(
        "the format \(form.name) does not describe the guest's \(count) overlays"
          + (request.target.overlays == .apply ? ", and has only the bytes that RAM shows" : "")
      )
    }
    return warnings
  }
}

/// The stages of a conversion.
enum ConvertStage: String, CaseIterable, Sendable {
  case read, scan, write, sync
}
