import Foundation

/// The real guest's RAM at two moments, which Scripts/guest captures.
package struct GuestImages {
  package let moments: [String]
  package let marker: String
  package let byteCount: Int
  /// The file system that the guest runs from, as it was before the guest booted.
  package let disk: String

  /// - Throws: ``TestSetupError`` when they are not there: tests must not pass without them.
  package init() throws {
    let advice = "run the tests with Scripts/test, which makes the guest images"
    guard let directory = environmentValue("VMCKPT_GUEST_DIR") else {
      throw TestSetupError("VMCKPT_GUEST_DIR is not set; \(advice)")
    }
    moments = (1...2).map { "\(directory)/moment-\($0).ram" }
    for path in moments where !exists(path) {
      throw TestSetupError("there is no guest image \(path); \(advice)")
    }
    let description = try JSONSerialization.jsonObject(
      with: Data(readFile("\(directory)/guest.json"))
    )
    guard let description = description as? [String: Any],
      let marker = description["marker"] as? String,
      let byteCount = description["memory_bytes"] as? Int,
      let payload = description["payload"] as? String,
      let recipe = (description["recipe"] as? String)?.split(separator: "-").first
    else { throw TestSetupError("\(directory)/guest.json is incomplete; \(advice)") }
    self.marker = marker
    self.byteCount = byteCount
    disk = "\(directory)/cache/disk-\(payload)-\(recipe).ext4"
  }
}
