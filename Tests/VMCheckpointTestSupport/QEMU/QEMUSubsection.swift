import Foundation

/// A subsection of a device in a migration stream: its bytes, and what the stream's description says of it. Written
/// from QEMU's documented layout, without the library's help.
package struct QEMUSubsection: Sendable {
  package var name: String
  package var version: UInt32 = 1
  package var data: [UInt8]
  /// JSON.
  package var description: String

  /// - Parameter fields: Numbers of 8 bytes, each field with its elements.
  package init(_ name: String, _ fields: [(name: String, values: [UInt64])]) {
    self.name = name
    data = fields.flatMap(\.values).flatMap { value in
      withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }
    let list = fields.map { field in
      let array = field.values.count == 1 ? "" : #""array_len": \#(field.values.count), "#
      return #"{"name": "\#(field.name)", \#(array)"type": "uint64", "size": 8}"#
    }
    description =
      #"{"vmsd_name": "\#(name)", "version": 1, "fields": [\#(list.joined(separator: ", "))]}"#
  }

  package var bytes: [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.raw([5])
    stream.string(name)
    stream.number(version)
    return stream.bytes + data
  }
}

/// The devices of a migration stream, to which subsections are added.
package struct QEMUDevices: Sendable {
  private var sections: [UInt8]
  private var description: String

  /// - Parameter tail: From the first device's section to the stream's end.
  package init(_ tail: [UInt8]) throws {
    // The last end mark before a description that is as long as it says.
    let start = tail.indices.dropFirst(6).last { index in
      tail[index] == UInt8(ascii: "{") && tail[index - 6] == 0 && tail[index - 5] == 6
        && tail[(index - 4)..<index].reduce(0) { $0 << 8 | Int($1) } == tail.count - index
    }
    guard let start else { throw TestSetupError("the stream has no description") }
    sections = Array(tail[..<(start - 6)])
    description = String(decoding: tail[start...], as: UTF8.self)
  }

  /// Puts a subsection of a CPU in front of another one that it has.
  package mutating func insert(_ added: QEMUSubsection, cpu: Int, before other: String) throws {
    var header = QEMUStreamBuilder()
    header.string("cpu")
    header.number(UInt32(cpu))
    var mark = QEMUStreamBuilder()
    mark.raw([5])
    mark.string(other)
    guard let section = sections.firstRange(of: header.bytes)?.upperBound,
      let place = sections[section...].firstRange(of: mark.bytes)?.lowerBound,
      let entry = description.firstRange(of: #"{"name": "cpu", "instance_id": \#(cpu),"#),
      let next = description[entry.upperBound...].firstRange(of: #"{"vmsd_name": "\#(other)""#)
    else { throw TestSetupError("CPU \(cpu) has no subsection \(other)") }
    sections.insert(contentsOf: added.bytes, at: place)
    description.insert(contentsOf: added.description + ", ", at: next.lowerBound)
  }

  /// Replaces the first text of the description that is like this.
  package mutating func replaceInDescription(_ text: String, with other: String) throws {
    guard let range = description.firstRange(of: text) else {
      throw TestSetupError("the description has no \(text)")
    }
    description.replaceSubrange(range, with: other)
  }

  /// Changes the sections' bytes, which lack the end mark.
  package mutating func withSections(_ change: (inout [UInt8]) -> Void) { change(&sections) }

  package var bytes: [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.raw(sections + [0, 6])
    stream.number(UInt32(description.utf8.count))
    return stream.bytes + description.utf8
  }
}
