import VMCheckpoint
import VMCheckpointFormats

/// What `overlays` prints.
struct OverlaysOutput: CommandOutput, Hashable {
  var from: String
  var to: String
  var overlayCount: Int
  /// The text that is printed without `--json`.
  var document: String
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case from, to
    case overlayCount = "overlay_count"
    case document, warnings
  }

  init(_ result: OverlayConversion.Result, from: OverlayFormat, to: OverlayFormat) {
    self.from = from.rawValue
    self.to = to.rawValue
    overlayCount = result.overlayCount
    document = result.text
    warnings = result.warnings
  }

  var text: String { document }

  var notice: String? {
    warnings.isEmpty ? nil : "warning: " + warnings.joined(separator: "; ")
  }
}
