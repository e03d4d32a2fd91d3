import VMCheckpoint
import VMCheckpointCore

/// A sixth kind of overlay, all of it in this file: a page that holds a counter, of which each virtual
/// processor has one. ``OverlayKindTests`` adds its line.
struct CounterPage: OverlayKindDefinition {
  var count: UInt64

  static let name = "counter"
  static let priority = 5
  static let scope = OverlayScope.vp
  static let msrIndex: UInt32 = 0x4000_0F00
  static let mayBeOutsideRAM = true

  static let parameterKeys = ["count", "step"]

  init(count: UInt64) {
    self.count = count
  }

  init(_ object: StrictJSONObject, contents: PageContents?) throws(VMCheckpointError) {
    count = try object.uint64("count")
  }

  var jsonMembers: [(key: String, json: String)] { [("count", "\"\(hexString(count))\"")] }

  static let jsonSchema = OverlayKindSchema(
    description: "A counter.",
    required: ["count"],
    properties: [##""count": { "$ref": "#/$defs/uint64" }"##]
  )

  var defect: (key: String, message: String)? {
    count == 0 ? ("count", "a counter begins at 1") : nil
  }

  var contents: PageContents {
    PageContents(prefix: withUnsafeBytes(of: count.littleEndian) { Array($0) }, fill: 0xc0)
  }

  func retargeted(
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> CounterPage {
    CounterPage(count: cpuVendor == .amd ? count + 1 : count)
  }
}
