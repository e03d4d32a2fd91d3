import VMCheckpoint

/// The JSON of a snapshot's members, as far as it must be understood.
enum PropolisDevice {
  /// One of the payloads of a device: a kind, its version, and JSON as a string.
  struct Payload: Hashable {
    var kind: String
    var version: UInt32
    var data: String
  }

  /// A device has a handful.
  private static let maximumValueCount = 4096

  /// Checks `{"boot_hrtime": …}`.
  static func checkGlobal(_ json: [UInt8]) throws(VMCheckpointError) {
    try explaining { () throws(VMCheckpointError) in
      let object = try object(json)
      guard case .integer = try object.value("boot_hrtime") else {
        throw object.invalid("boot_hrtime", "expected an integer")
      }
    }
  }

  /// The payloads of `{"instance_name": …, "payload": […]}`.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the member's name and never repeats
  ///   a device's data.
  static func payloads(_ json: [UInt8]) throws(VMCheckpointError) -> [Payload] {
    try explaining { () throws(VMCheckpointError) in try uncheckedPayloads(json) }
  }

  private static func uncheckedPayloads(
    _ json: [UInt8]
  ) throws(VMCheckpointError) -> [Payload] {
    let device = try object(json)
    _ = try device.string("instance_name")
    guard case .array(let elements) = try device.value("payload") else {
      throw device.invalid("payload", "expected an array")
    }
    var payloads: [Payload] = []
    for (index, element) in elements.enumerated() {
      let path = JSONPath(components: [.key("payload"), .index(index)])
      let payload = try StrictJSONObject(element, at: path)
      payloads.append(
        Payload(
          kind: try payload.string("kind"),
          version: try payload.uint32("version"),
          data: try payload.string("data")
        )
      )
    }
    return payloads
  }

  private static func object(_ json: [UInt8]) throws(VMCheckpointError) -> StrictJSONObject {
    try StrictJSONObject(
      StrictJSONReader.read(
        json,
        maximumValueCount: maximumValueCount,
        maximumStringByteCount: json.count
      ),
      at: JSONPath()
    )
  }

  private static func explaining<Result>(
    _ body: () throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    do throws(VMCheckpointError) {
      return try body()
    } catch {
      throw VMCheckpointError(error.code, "is not as Propolis writes it: \(error.message)")
    }
  }
}
