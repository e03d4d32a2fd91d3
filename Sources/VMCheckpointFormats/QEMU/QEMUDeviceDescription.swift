import Foundation
import VMCheckpoint

/// The description of the devices' sections that QEMU puts at the stream's very end, in JSON.
enum QEMUDeviceDescription {
  /// Checks that `devices`, everything behind the RAM section, is complete: that it ends in an end
  /// mark and a description that is as long as it says.
  ///
  /// The sections before it do not state their lengths. Without the description, nothing would show
  /// that a stream was cut off.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  static func check(_ devices: [UInt8]) throws(VMCheckpointError) {
    guard let start = start(in: devices) else {
      var search = Search()
      guard !search.findsEnd(in: devices) else { throw goesOn }
      throw .invalidData(
        "it ends too early: the description of its devices is missing",
        hint: "the migration failed, was interrupted, or the machine has suppress-vmdesc=on"
      )
    }
    guard !holdsAnother(devices) else { throw goesOn }
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
    // As of QEMU 8.0 it has a section before RAM, which shows the same earlier.
    let names = list.compactMap { ($0 as? [String: Any])?["name"] as? String }
    guard !names.contains(where: { $0.split(separator: "/").last == "virtio-mem" }) else {
      throw .invalidData(
        "the machine has virtio-mem, which is not supported",
        hint: "save the guest without it: its memory would not be kept as RAM"
      )
    }
  }

  /// The error for a stream that something follows.
  static var goesOn: VMCheckpointError {
    .invalidData("it goes on after its end", hint: "give one stream, not several joined")
  }

  /// Looks for a whole description in bytes to which more are added.
  struct Search {
    /// What looks like one is read as JSON at most so often: a device's state may look so by chance.
    private static let maximumTryCount = 16

    /// How many bytes were searched for a beginning.
    private var searchedByteCount = 6
    /// Where one may begin whose end had not come yet.
    private var candidates: [Range<Int>] = []
    private var tryCount = 0

    /// - Parameter devices: What the last call had, and more.
    mutating func findsEnd(in devices: [UInt8]) -> Bool {
      while searchedByteCount < devices.count {
        defer { searchedByteCount += 1 }
        guard devices[searchedByteCount] == UInt8(ascii: "{"),
          QEMUDeviceDescription.isMarked(searchedByteCount, in: devices)
        else { continue }
        let byteCount = QEMUDeviceDescription.markedByteCount(searchedByteCount, in: devices)
        guard byteCount <= QEMUStreamFormat.maximumDescriptionByteCount,
          tryCount + candidates.count < Self.maximumTryCount
        else { continue }
        candidates.append(searchedByteCount..<(searchedByteCount + byteCount))
      }
      for range in candidates where range.upperBound <= devices.count {
        tryCount += 1
        let object = try? JSONSerialization.jsonObject(with: Data(devices[range]))
        if let object = object as? [String: Any], object["devices"] is [Any] { return true }
      }
      candidates.removeAll { $0.upperBound <= devices.count }
      return false
    }
  }

  /// The devices that the description lists; `nil` when there is none, or it is damaged.
  static func devices(in stream: [UInt8]) -> [[String: Any]]? {
    guard let start = start(in: stream),
      let object = try? JSONSerialization.jsonObject(with: Data(stream[start...]))
    else { return nil }
    return (object as? [String: Any])?["devices"] as? [[String: Any]]
  }

  /// Whether a stream's end is followed by another stream: its magic number and version, right behind
  /// a description that is as long as it says.
  ///
  /// - Complexity: O(*n*), whatever the bytes are.
  private static func holdsAnother(_ devices: [UInt8]) -> Bool {
    let beginning = Array("QEVM".utf8) + [0, 0, 0, 3]
    var start = 6
    while start + beginning.count < devices.count {
      defer { start += 1 }
      guard devices[start] == UInt8(ascii: "{"), isMarked(start, in: devices) else { continue }
      let end = start + markedByteCount(start, in: devices)
      if end < devices.count, devices[end...].starts(with: beginning) { return true }
    }
    return false
  }

  /// Whether an end mark and a description's mark come before `start`.
  fileprivate static func isMarked(_ start: Int, in devices: [UInt8]) -> Bool {
    devices[start - 6] == QEMUStreamFormat.Section.endOfSections
      && devices[start - 5] == QEMUStreamFormat.Section.description
  }

  /// The length that comes before a description.
  fileprivate static func markedByteCount(_ start: Int, in devices: [UInt8]) -> Int {
    devices[(start - 4)..<start].reduce(0) { $0 << 8 | Int($1) }
  }

  /// Where the JSON begins: behind an end mark, its own mark and a length that fits.
  static func start(in devices: [UInt8]) -> Int? {
    let headerByteCount = 6
    var start = devices.count - 2
    let lowest = max(headerByteCount, devices.count - QEMUStreamFormat.maximumDescriptionByteCount)
    while start >= lowest {
      if devices[start] == UInt8(ascii: "{"), isMarked(start, in: devices),
        markedByteCount(start, in: devices) == devices.count - start
      {
        return start
      }
      start -= 1
    }
    return nil
  }
}
