import VMCheckpoint

/// The run state that a migration stream carries: whether the guest goes on by itself after it.
///
/// QEMU's section "globalstate" has the name of the state: its length with a zero behind it as four
/// bytes, then the name in a buffer of zeros. (QEMU `migration/global_state.c`.)
enum QEMURunState {
  private static let sectionName = Array("globalstate".utf8)
  private static let paused = Array("paused".utf8) + [0]
  private static let running = Array("running".utf8) + [0]

  /// Whether the guest of a stream goes on by itself after it, as it did when it was saved.
  ///
  /// - Returns: `nil` when the stream does not say so.
  static func runs(_ stream: [UInt8], ramOffset: Int) -> Bool? {
    guard let sections = QEMUDeviceSections(stream, ramOffset: ramOffset),
      let state = sections.devices(named: "globalstate").first?.fields.bytes("runstate")
    else { return nil }
    let name = String(decoding: state.prefix { $0 != 0 }, as: UTF8.self)
    // QEMU's `runstate_is_live`.
    return name.isEmpty ? nil : name == "running" || name == "suspended"
  }

  /// Lets a guest run that the stream `data` has as paused.
  ///
  /// - Returns: Whether it has; otherwise `data` stays as it is.
  static func resume(_ data: inout [UInt8]) -> Bool {
    var header = [UInt8(sectionName.count)] + sectionName
    // Instance and version.
    header.appendBigEndian(UInt32(0))
    header.appendBigEndian(UInt32(1))
    var state: [UInt8] = []
    state.appendBigEndian(UInt32(paused.count))
    state += paused + [0]
    let wanted = header + state
    var places: [Int] = []
    var start = 0
    while let place = data.firstIndex(of: wanted, from: start) {
      places.append(place)
      start = place + wanted.count
    }
    // RAM's pages are not in it; what else has these bytes is not known, so only one is taken.
    guard places.count == 1, let place = places.first else { return false }
    var replacement: [UInt8] = []
    replacement.appendBigEndian(UInt32(running.count))
    replacement += running
    let target = place + header.count
    data.replaceSubrange(target..<(target + replacement.count), with: replacement)
    return true
  }
}
