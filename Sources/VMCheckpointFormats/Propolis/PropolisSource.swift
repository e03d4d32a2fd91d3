public import VMCheckpoint

/// A snapshot of propolis-standalone, as something to save.
struct PropolisSource: CaptureSource {
  let file: String

  var path: String? { file }

  var names: CaptureNames {
    let (snapshot, vm) = PropolisArchive.names(fileName: CaptureNames.lastComponent(of: file))
    return CaptureNames(snapshot: snapshot, vm: vm, description: "propolis:\(file)")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let opened = try PropolisArchive.open(path: file)
    let files = OpenRAMFiles([.init(descriptor: opened.descriptor, path: file)])
    try check(context.request, describesOverlays: opened.overlays != nil)
    var guest = CapturedGuest(
      layout: opened.archive.layout,
      placement: opened.archive.placement,
      files: files
    )
    guest.deviceStates = opened.deviceStates
    if context.request.findsOverlays {
      guest.overlays = opened.overlays.map { FoundOverlays($0, origin: "propolis-device-state") }
    }
    return try use(guest)
  }

  /// Checks that the request does not say what the archive says.
  private func check(
    _ request: SaveRequest,
    describesOverlays: Bool
  ) throws(VMCheckpointError) {
    guard request.layout == .contiguous else {
      throw VMCheckpointError(
        .invalidArgument,
        "Propolis snapshot \(quotedName(file)) says itself where its RAM lies",
        hint: "give no memory regions"
      )
    }
    let given = request.overlays
    guard !describesOverlays || given == OverlayDocument(guestOSID: nil, records: []) else {
      throw VMCheckpointError(
        .invalidArgument,
        "Propolis snapshot \(quotedName(file)) describes its overlays itself",
        hint: "give no overlays"
      )
    }
  }
}

extension RAMInput {
  /// A snapshot of propolis-standalone, read in place. It shows the RAM's layout, the device states,
  /// and, where it has the device that keeps them, the overlays.
  public static func propolis(path: String) -> RAMInput { RAMInput(PropolisSource(file: path)) }
}
