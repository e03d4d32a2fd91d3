public import VMCheckpoint

/// The snapshot of propolis-standalone that a snapshot was saved from, of the same members and bytes.
struct PropolisForm: RestorationForm {
  let name = "propolis"
  let showsOverlays = false

  func check(_ target: RestoreTarget) throws(VMCheckpointError) {
    guard target.overlays == .omit else {
      throw VMCheckpointError(
        .invalidArgument,
        "RAM in a Propolis snapshot is bare: Propolis lays its overlays over it itself",
        hint: "leave overlays out"
      )
    }
    guard target.tscFrequencyHz == nil, target.cpuVendor == nil else {
      throw VMCheckpointError(
        .invalidArgument,
        "a Propolis snapshot is restored for the host that it was saved on",
        hint: "leave the TSC's frequency and the CPU's vendor out"
      )
    }
  }

  func keeps(_ state: DeviceState) -> Bool {
    PropolisArchive.stateFormats.contains(state.format)
  }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    try PropolisArchive.form(
      of: guest.title,
      layout: guest.layout,
      deviceStates: try guest.deviceStates()
    )
  }
}

extension RestoreFormat {
  /// A snapshot of propolis-standalone, of the same members and bytes as the one that was saved. Its
  /// RAM is bare, as Propolis lays its overlays over it itself.
  public static let propolis = RestoreFormat(PropolisForm())
}
