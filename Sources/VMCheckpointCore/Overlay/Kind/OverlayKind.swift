/// What an overlay page is for. One register of the hypervisor interface places each kind.
///
/// The raw values are the kinds' names in overlays.json and in the store. Each kind
/// has its own file in the folder Kinds; ``all`` lists them.
public struct OverlayKind: Sendable {
  package let definition: any OverlayKindDefinition.Type

  package init(_ definition: any OverlayKindDefinition.Type) {
    self.definition = definition
  }
}

extension OverlayKind: CaseIterable {
  /// One line for each kind, in the order of their priorities.
  package static let all: [any OverlayKindDefinition.Type] = [
    HypercallVariant.self,
    ReferenceTSC.self,
    SynICMessagePage.self,
    SynICEventPage.self,
    VPAssistPage.self,
  ]

  /// Every kind that this program knows, in the order of their priorities.
  public static var allCases: [OverlayKind] {
    (all + OverlayKindAdditions.all).map(OverlayKind.init)
  }
}

extension OverlayKind: RawRepresentable, Hashable, Codable {
  /// The kind with a name; `nil` when there is none.
  public init?(rawValue: String) {
    guard let kind = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
    self = kind
  }

  /// The kind's name.
  public var rawValue: String { definition.name }

  /// Whether both are the kind of one name.
  public static func == (lhs: OverlayKind, rhs: OverlayKind) -> Bool {
    lhs.definition == rhs.definition
  }

  /// Feeds the kind's identity to `hasher`.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(ObjectIdentifier(definition))
  }
}

/// What an overlay belongs to.
public enum OverlayScope: String, Sendable, Codable, CaseIterable {
  /// The whole virtual machine.
  case vm
  /// One virtual processor.
  case vp
}

extension OverlayKind {
  /// Which of several overlays at one PFN the guest sees: the lowest.
  ///
  /// The TLFS leaves the order open (5.2.1). It is fixed here, and so are the numbers: they are
  /// part of the store's format and never renumbered. Propolis fixes the first two
  /// (`enlightenment/hyperv/overlay.rs`).
  public var priority: Int { definition.priority }

  /// Whether the virtual machine has one register of this kind or each virtual processor its own.
  public var scope: OverlayScope { definition.scope }

  /// Whether the guest may write the page, so that its 4096 bytes are kept; the other kinds'
  /// contents follow from their parameters.
  public var storesContents: Bool { definition.storesContents }

  /// The number of the register that places this kind (TLFS appendix C).
  public var msrIndex: UInt32 { definition.msrIndex }

  /// The kind that register `msrIndex` places; `nil` for every other register.
  public init?(msrIndex: UInt32) {
    guard let kind = Self.allCases.first(where: { $0.msrIndex == msrIndex }) else { return nil }
    self = kind
  }

  /// What a store with an overlay of this kind says to programs that may not know it; `nil` for the kinds
  /// that version 1 of the format began with.
  package var feature: StoreFeature? {
    definition.isInVersion1
      ? nil : StoreFeature(name: "overlay-kind \(rawValue)", isNeededByReaders: true)
  }

  /// The keys that an overlay of this kind may have for its parameters.
  package var parameterKeys: Set<String> {
    Set(definition.parameterKeys).union([OverlayMSRBits.key])
  }
}

extension OverlayKind: CustomStringConvertible {
  /// The raw value.
  public var description: String { rawValue }
}

/// All words of an enumeration of the format, as a list for messages.
package func rawValues<Word: CaseIterable & RawRepresentable<String>>(_ type: Word.Type) -> String {
  type.allCases.map(\.rawValue).joined(separator: ", ")
}
