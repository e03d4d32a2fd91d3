import VMCheckpoint

/// A libvirt save image: the header and XML that the guest was saved with, and a migration stream.
struct LibvirtSaveForm: RestorationForm {
  let name = "libvirt-save"
  /// The domain's XML that takes the place of the one that the guest was saved with.
  var xml: [UInt8]?

  func check(_ target: RestoreTarget) throws(VMCheckpointError) {
    guard let xml else { return }
    // libvirt reads it up to a NUL, and says itself what of a domain's XML is wrong.
    guard xml.count <= Self.maximumXMLByteCount, !xml.contains(0),
      xml.drop(while: { $0 <= 0x20 }).first == UInt8(ascii: "<")
    else {
      throw .invalidData(
        "what is to take the place of the domain's XML is not XML",
        hint: "give it as 'virsh save-image-dumpxml' prints it"
      )
    }
  }

  /// A domain's XML has some KiB.
  private static let maximumXMLByteCount = 16 << 20

  func keeps(_ state: DeviceState) -> Bool {
    QEMUStoredState.has(state) || state.format == LibvirtSaveSource.stateFormat
  }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    guard let state = try guest.deviceState(format: LibvirtSaveSource.stateFormat) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(guest.title) has no XML of libvirt",
        hint: "an image read by libvirt-save: has it; --format qemu-stream needs none"
      )
    }
    guard state.version == LibvirtSaveSource.stateVersion,
      state.data.count > LibvirtSaveHeader.byteCount,
      let header = try? LibvirtSaveHeader(
        Array(state.data[..<LibvirtSaveHeader.byteCount]),
        name: guest.title
      ),
      header.dataByteCount == state.data.count - LibvirtSaveHeader.byteCount
    else {
      throw VMCheckpointError(.corrupt, "\(guest.title): its description by libvirt is damaged")
    }
    var head = state.data
    if let xml {
      head = header.replacingXML(in: state.data[LibvirtSaveHeader.byteCount...], with: xml)
    }
    return QEMUStreamRestore(try QEMUStoredState(guest), head: head)
  }
}
