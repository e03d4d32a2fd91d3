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
    guard !holdsAnother(devices) else {
      throw .invalidData(
        "it goes on after its end",
        hint: "give one stream, not several joined"
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
    // As of QEMU 8.0 it has a section before RAM, which tells the same earlier.
    let names = list.compactMap { ($0 as? [String: Any])?["name"] as? String }
    guard !names.contains(where: { $0.split(separator: "/").last == "virtio-mem" }) else {
      throw .invalidData(
        "the machine has virtio-mem, which is not supported",
        hint: "save the guest without it: its memory would not be kept as RAM"
      )
    }
  }

  /// Whether a stream's end is followed by another stream: its magic number and version, behind a
  /// description that is whole.
  private static func holdsAnother(_ devices: [UInt8]) -> Bool {
    let beginning = Data("}QEVM".utf8) + [0, 0, 0, 3]
    let devices = Data(devices)
    var position = 0
    while let found = devices.range(of: beginning, in: position..<devices.count) {
      if start(in: Array(devices[...found.lowerBound])) != nil { return true }
      position = found.lowerBound + 1
    }
    return false
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
