import VMCheckpoint

/// A libvirt save image: the header and XML that the guest was saved with, and a migration stream.
struct LibvirtSaveForm: RestorationForm {
  let name = "libvirt-save"

  func plan(_ snapshot: PlannedSnapshot) throws -> any RestorationWriter {
    guard let state = try snapshot.deviceState(format: LibvirtSaveSource.stateFormat) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(snapshot.title) has no XML of libvirt",
        hint: "save the domain's image with libvirt-save: to have it; or restore with --format "
          + "qemu-stream"
      )
    }
    guard state.version == LibvirtSaveSource.stateVersion,
      state.data.count > LibvirtSaveHeader.byteCount,
      let header = try? LibvirtSaveHeader(
        Array(state.data[..<LibvirtSaveHeader.byteCount]),
        name: snapshot.title
      ),
      header.dataByteCount == state.data.count - LibvirtSaveHeader.byteCount
    else {
      throw VMCheckpointError(.corrupt, "\(snapshot.title): its description by libvirt is damaged")
    }
    return QEMUStreamRestore(try QEMUStoredState(snapshot), head: state.data)
  }
}
