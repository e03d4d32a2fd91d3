/// What RAM that is read or restored shows where overlays stood.
public enum OverlayTreatment: String, Sendable, Hashable, CaseIterable, Codable {
  /// The active overlay at each page, as the guest sees it.
  case apply
  /// Bare RAM: what lies beneath.
  case omit
}
