/// The fields of a device, or of a structure in one, as a migration stream has them: big-endian, one after
/// the other, as the stream's description has them.
///
/// Source: QEMU `migration/vmstate.c`, `vmstate_save_state_v`: a field's `size` is what one element took in the
/// stream, whatever is nested in it, and `array_len` how many elements of that size follow each other.
struct QEMUDeviceFields {
  /// Where a field is.
  private struct Place {
    var offset: Int
    var byteCount: Int
    var elementCount: Int
    var description: [String: Any]
  }

  private let bytes: ArraySlice<UInt8>
  private let descriptions: [[String: Any]]

  /// - Parameter bytes: From the first field on; more may follow.
  init(_ bytes: ArraySlice<UInt8>, _ descriptions: [[String: Any]]) {
    self.bytes = bytes
    self.descriptions = descriptions
  }

  /// The numbers of a field, of up to 8 bytes each; `nil` when there is no such field, or it is another one.
  func integers(_ name: String) -> [UInt64]? {
    guard let place = place(name), (1...8).contains(place.byteCount) else { return nil }
    return (0..<place.elementCount).map { index in
      bytes[(place.offset + index * place.byteCount)...].prefix(place.byteCount)
        .reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  /// The first number of a field.
  func integer(_ name: String) -> UInt64? { integers(name)?.first }

  /// The number of a field that is one of 8 bytes.
  func uint64(_ name: String) -> UInt64? {
    guard let place = place(name), place.byteCount == 8, place.elementCount == 1 else { return nil }
    return integer(name)
  }

  /// A field as it is in the stream, of one element.
  func bytes(_ name: String) -> ArraySlice<UInt8>? {
    guard let place = place(name), place.elementCount == 1 else { return nil }
    return bytes[place.offset...].prefix(place.byteCount)
  }

  /// The structures of a field.
  func structures(_ name: String) -> [QEMUDeviceFields]? {
    guard let place = place(name),
      let nested = place.description["struct"] as? [String: Any],
      let fields = nested["fields"] as? [[String: Any]]
    else { return nil }
    return (0..<place.elementCount).map { index in
      QEMUDeviceFields(
        bytes[(place.offset + index * place.byteCount)...].prefix(place.byteCount),
        fields
      )
    }
  }

  private func place(_ name: String) -> Place? {
    var offset = bytes.startIndex
    for description in descriptions {
      guard let (byteCount, elementCount) = Self.size(description),
        elementCount == 0 || byteCount <= (bytes.endIndex - offset) / elementCount
      else { return nil }
      if description["name"] as? String == name {
        return Place(
          offset: offset,
          byteCount: byteCount,
          elementCount: elementCount,
          description: description
        )
      }
      offset += byteCount * elementCount
    }
    return nil
  }

  /// How many bytes these fields take; `nil` when the description makes no sense.
  static func byteCount(_ descriptions: [[String: Any]]) -> Int? {
    var sum = 0
    for description in descriptions {
      guard let (byteCount, elementCount) = size(description) else { return nil }
      let (product, overflows) = byteCount.multipliedReportingOverflow(by: elementCount)
      guard !overflows, product <= QEMUStreamFormat.maximumDeviceStateByteCount else { return nil }
      sum += product
      guard sum <= QEMUStreamFormat.maximumDeviceStateByteCount else { return nil }
    }
    return sum
  }

  private static func size(_ description: [String: Any]) -> (byteCount: Int, elementCount: Int)? {
    guard let byteCount = description["size"] as? Int, byteCount >= 0 else { return nil }
    guard let array = description["array_len"] else { return (byteCount, 1) }
    guard let elementCount = array as? Int, elementCount >= 0 else { return nil }
    return (byteCount, elementCount)
  }
}
