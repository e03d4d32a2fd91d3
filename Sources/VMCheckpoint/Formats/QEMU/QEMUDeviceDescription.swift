import Foundation

/// The description of the devices' sections that QEMU puts at the stream's very end, in JSON.
enum QEMUDeviceDescription {
  /// Checks that `devices`, everything behind the RAM section, is complete: that it ends in an end
  /// mark and a description that is as long as it says.
  ///
  /// The sections before it do not tell their lengths, so that without this nothing would tell a
  /// stream that was cut off from a whole one.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  static func check(_ devices: [UInt8]) throws(VMCheckpointError) {
    guard let start = start(in: devices) else {
      throw .invalidData(
        "it ends too early: the description of its devices is missing",
        hint: "the migration failed, was interrupted, or the machine has suppress-vmdesc=on"
      )
    }
    let json = Data(devices[start...])
    guard let object = try? JSONSerialization.jsonObject(with: json) as? [String: Any],
      let list = object["devices"] as? [Any], !list.isEmpty
    else {
      throw .invalidData("the description of its devices is damaged")
    }
    if let pageByteCount = object["page_size"] as? Int, pageByteCount != Page.byteCount {
      throw .invalidData(
        "its pages have \(pageByteCount) bytes, and only x86 with \(Page.byteCount) is supported"
      )
    }
  }

  /// Where the JSON begins: behind an end mark, its own mark and a length that fits.
  private static func start(in devices: [UInt8]) -> Int? {
    let headerByteCount = 6
    var start = devices.count - 2
    let lowest = max(headerByteCount, devices.count - QEMUStreamFormat.maximumDescriptionByteCount)
    while start >= lowest {
      if devices[start] == UInt8(ascii: "{"),
        devices[start - 6] == QEMUStreamFormat.Section.endOfSections,
        devices[start - 5] == QEMUStreamFormat.Section.description,
        devices[(start - 4)..<start].reduce(0, { $0 << 8 | Int($1) }) == devices.count - start
      {
        return start
      }
      start -= 1
    }
    return nil
  }
}
