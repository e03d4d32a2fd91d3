import Glibc
import VMCheckpoint

/// Shows a QEMU guest in a mount as `restore --format qemu` writes it: its device state, and a script that runs it from
/// the mount's own RAM.
struct QEMUMountForm: MountForm {
  /// RAM of one block that is not what the guest saw: overlays are left to QEMU, which lays them over it.
  private static let ramName = "ram.qemu"

  /// The files of a guest's blocks of RAM in its folder of a mount.
  static func ramNames(in folder: String, blockCount: Int) -> [String] {
    if blockCount == 1, access("\(folder)/\(ramName)", F_OK) == 0 { return [ramName] }
    return (0..<blockCount).map { QEMUDirectoryRestore.ramName($0, of: blockCount) }
  }

  func files(of guest: any RestorableGuest, showing overlays: [Overlay]) throws -> [MountFile] {
    guard try guest.deviceState(format: QEMUMachineRecord.format) != nil,
      try guest.deviceState(format: QEMUStreamCapture.streamFormat) != nil
    else { return [] }
    let state = try QEMUStoredState(guest)
    let hyperV = QEMUHyperVState(state.stream, ramOffset: state.record.ramOffset)
    let left = overlays.filter { hyperV.covers($0) }
    let blocks = state.record.ramBlocks
    let view: MountedRAM.View =
      left.isEmpty ? .applied : .leaving { overlay in left.contains(overlay) }
    var files: [MountFile] = []
    var ramNames = [MountName.ram]
    if blocks.count > 1 || !left.isEmpty {
      let form = RestoredForm(guest.layout, fileByteCounts: blocks.map(\.byteCount))
      ramNames = blocks.indices.map {
        blocks.count == 1
          ? Self.ramName : QEMUDirectoryRestore.ramName($0, of: blocks.count)
      }
      for (index, name) in ramNames.enumerated() {
        files.append(MountFile(name, .ram(MountedRAM(form, fileIndex: index, view: view))))
      }
    }
    let stream = MountFile(
      QEMUDirectoryRestore.stateName,
      .bytes(count: state.stream.count) { try QEMUStoredState($0).stream }
    )
    files.append(stream)
    let script = Array(
      try QEMURunScript(
        state,
        trustsCommand: false,
        ramNames: ramNames,
        origin: "this folder of a mount is of"
      ).text().utf8
    )
    files.append(
      MountFile(
        QEMUDirectoryRestore.scriptName,
        isExecutable: true,
        .bytes(count: script.count) { _ in script }
      )
    )
    return files
  }
}
