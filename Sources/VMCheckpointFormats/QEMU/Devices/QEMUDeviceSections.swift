import Foundation

/// The devices of a migration stream, each found by the stream's own description.
///
/// Sections do not say how long they are, but the description lists the devices in the stream's order with the size
/// of each field. Source: QEMU `migration/savevm.c`, `scripts/analyze-migration.py`.
struct QEMUDeviceSections {
  private typealias Section = QEMUStreamFormat.Section

  /// A device's section.
  struct Device {
    var name: String
    var instanceID: UInt32
    var fields: QEMUDeviceFields
    /// Where its data begins in the stream.
    fileprivate var start: Int
    fileprivate var description: [String: Any]
  }

  /// What a device has beside its fields where that is needed: fields of their own.
  struct Subsection {
    var name: String
    var version: UInt32
    var fields: QEMUDeviceFields
  }

  /// How often a section may be looked for that is not where it should be.
  private static let maximumSearchCount = 16

  private var devices: [Device] = []
  private let stream: [UInt8]
  /// Where the description begins.
  private let limit: Int

  /// - Parameters:
  ///   - stream: A stream without the guest's RAM.
  ///   - ramOffset: Where in it RAM belongs.
  /// - Returns: `nil` when the stream has no description.
  init?(_ stream: [UInt8], ramOffset: Int) {
    guard let start = QEMUDeviceDescription.start(in: stream),
      let list = QEMUDeviceDescription.devices(in: stream),
      var position = Self.ramEnd(stream, ramOffset)?.devices
    else { return nil }
    self.stream = stream
    limit = start
    var searchCount = 0
    for entry in list {
      guard let name = entry["name"] as? String, let instance = entry["instance_id"] as? Int,
        let instanceID = UInt32(exactly: instance), let version = entry["version"] as? Int,
        let versionNumber = UInt32(exactly: version),
        let descriptions = entry["fields"] as? [[String: Any]],
        let header = Self.header(name, instanceID, versionNumber)
      else { continue }
      if !Self.isHeader(header, at: position, in: stream, to: start) { searchCount += 1 }
      guard searchCount <= Self.maximumSearchCount else { return nil }
      guard let found = Self.find(header, in: stream, from: position, to: start) else { continue }
      devices.append(
        Device(
          name: name,
          instanceID: instanceID,
          fields: QEMUDeviceFields(stream[found..<start], descriptions),
          start: found,
          description: entry
        )
      )
      position = Self.end(of: entry, in: stream, from: found, to: start) ?? found
    }
  }

  /// The devices of this name, in the stream's order.
  func devices(named name: String) -> [Device] { devices.filter { $0.name == name } }

  /// The subsections of a device, in the stream's order.
  ///
  /// - Returns: `nil` when the stream does not have them, and the section's end, where its description does.
  func subsections(of device: Device) -> [Subsection]? {
    guard let fields = device.description["fields"] as? [[String: Any]],
      let byteCount = QEMUDeviceFields.byteCount(fields), byteCount <= limit - device.start
    else { return nil }
    var position = device.start + byteCount
    var subsections: [Subsection] = []
    for entry in Self.subsections(device.description) {
      guard let name = entry["vmsd_name"] as? String, let number = entry["version"] as? Int,
        let version = UInt32(exactly: number), let fields = entry["fields"] as? [[String: Any]],
        let mark = Self.subsectionMark(name, version),
        stream[position..<limit].starts(with: mark),
        let byteCount = Self.byteCount(entry, depth: 1),
        byteCount <= limit - position - mark.count
      else { return nil }
      position += mark.count
      let bytes = stream[position..<(position + byteCount)]
      subsections.append(
        Subsection(name: name, version: version, fields: QEMUDeviceFields(bytes, fields))
      )
      position += byteCount
    }
    return isEnd(of: device, at: position) ? subsections : nil
  }

  /// Whether a section's footer is at `position`, or, where sections have none, what may follow it.
  private func isEnd(of device: Device, at position: Int) -> Bool {
    guard position < limit else { return false }
    switch stream[position] {
    case Section.footer:
      // The id is behind the section's first mark.
      let id = device.start - 4 - 4 - device.name.utf8.count - 1 - 4
      return limit - position >= 5
        && stream[(position + 1)..<(position + 5)].elementsEqual(stream[id..<(id + 4)])
    case Section.full, Section.endOfSections: return true
    default: return false
    }
  }

  /// The descriptions of the subsections of a device or subsection.
  static func subsections(_ entry: [String: Any]) -> [[String: Any]] {
    entry["subsections"] as? [[String: Any]] ?? []
  }

  /// What a subsection begins with.
  private static func subsectionMark(_ name: String, _ version: UInt32) -> [UInt8]? {
    guard let nameByteCount = UInt8(exactly: name.utf8.count) else { return nil }
    var mark = [Section.subsection, nameByteCount] + name.utf8
    mark.appendBigEndian(version)
    return mark
  }

  /// What follows a section's mark and its id.
  private static func header(_ name: String, _ instanceID: UInt32, _ version: UInt32) -> [UInt8]? {
    guard let nameByteCount = UInt8(exactly: name.utf8.count) else { return nil }
    var header = [nameByteCount] + name.utf8
    header.appendBigEndian(instanceID)
    header.appendBigEndian(version)
    return header
  }

  /// Where the data of the section with this header begins. It is expected at `position`; it is looked for
  /// behind it only if the section before could not be measured.
  private static func find(
    _ header: [UInt8],
    in stream: [UInt8],
    from position: Int,
    to limit: Int
  ) -> Int? {
    var start = position
    while start < limit {
      if isHeader(header, at: start, in: stream, to: limit) { return start + 5 + header.count }
      start += 1
    }
    return nil
  }

  /// Whether a section begins at `start`: a mark, an id of 4 bytes, and the header.
  private static func isHeader(
    _ header: [UInt8],
    at start: Int,
    in stream: [UInt8],
    to limit: Int
  ) -> Bool {
    start + 5 + header.count <= limit && stream[start] == Section.full
      && stream[(start + 5)..<limit].starts(with: header)
  }

  /// Where the section ends whose data begins at `start`, its footer included.
  private static func end(
    of entry: [String: Any],
    in stream: [UInt8],
    from start: Int,
    to limit: Int
  ) -> Int? {
    guard let byteCount = byteCount(entry, depth: 0), byteCount <= limit - start else { return nil }
    let end = start + byteCount
    // A footer and its id; old machine types have none.
    return limit - end >= 5 && stream[end] == Section.footer ? end + 5 : end
  }

  /// The fields of a device or subsection and its subsections.
  private static func byteCount(_ entry: [String: Any], depth: Int) -> Int? {
    guard depth < 16, let fields = entry["fields"] as? [[String: Any]],
      var sum = QEMUDeviceFields.byteCount(fields)
    else { return nil }
    for subsection in subsections(entry) {
      guard let name = subsection["vmsd_name"] as? String,
        let nested = byteCount(subsection, depth: depth + 1)
      else { return nil }
      // A mark, the name with its length, and a version.
      sum += 1 + 1 + name.utf8.count + 4 + nested
      guard sum <= QEMUStreamFormat.maximumDeviceStateByteCount else { return nil }
    }
    return sum
  }

  /// The end of the RAM section, which has the pages of ROMs and of video cards.
  struct RAMEnd {
    /// The records of the pages.
    var pages: Range<Int>
    /// Where the first device's section begins.
    var devices: Int
  }

  /// Finds the end of the RAM section behind the place where RAM belongs, and commands that are there.
  static func ramEnd(_ stream: [UInt8], _ ramOffset: Int) -> RAMEnd? {
    var reader = Reader(stream: stream, offset: ramOffset)
    while reader.byte == Section.command {
      guard reader.skip(3), let byteCount = reader.number(2), reader.skip(Int(byteCount)) else {
        return nil
      }
    }
    guard reader.byte == Section.end, reader.skip(5) else { return nil }
    let start = reader.offset
    typealias Flag = QEMUStreamFormat.RAMFlag
    while let word = reader.number(8) {
      let flags = word & Flag.mask
      if flags == Flag.endOfSection {
        let pages = start..<(reader.offset - 8)
        // The footer and its id.
        guard reader.byte == Section.footer, reader.skip(5) else { return nil }
        return RAMEnd(pages: pages, devices: reader.offset)
      }
      if flags & Flag.sameBlock == 0 {
        guard let nameByteCount = reader.number(1), reader.skip(Int(nameByteCount)) else {
          return nil
        }
      }
      switch flags & ~Flag.sameBlock {
      case Flag.page: guard reader.skip(4096) else { return nil }
      case Flag.zero: guard reader.skip(1) else { return nil }
      default: return nil
      }
    }
    return nil
  }

  /// Steps through the stream, never past its end.
  private struct Reader {
    let stream: [UInt8]
    var offset: Int

    var byte: UInt8? { stream.indices.contains(offset) ? stream[offset] : nil }

    mutating func skip(_ count: Int) -> Bool {
      guard offset >= 0, count <= stream.count - offset else { return false }
      offset += count
      return true
    }

    mutating func number(_ byteCount: Int) -> UInt64? {
      let start = offset
      guard skip(byteCount) else { return nil }
      return stream[start..<offset].reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}
