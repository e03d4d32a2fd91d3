/// A kind of overlay. The type has what is true of all its overlays, a value the parameters of one: what
/// distinguishes it from others of its kind. Both together determine the page.
///
/// A new kind is a file in the folder Kinds and a line in ``OverlayKind/all``. Reading and writing
/// overlays.json, the store's rows, restores, retargeting and the SQL functions follow from the file.
package protocol OverlayKindDefinition: Hashable, Sendable {
  // MARK: The kind

  /// Its name in overlays.json and in the store, for ever: lower-case words with hyphens.
  static var name: String { get }

  /// See ``OverlayKind/priority``: the next free number, for ever.
  static var priority: Int { get }

  /// See ``OverlayKind/scope``.
  static var scope: OverlayScope { get }

  /// See ``OverlayKind/msrIndex``.
  static var msrIndex: UInt32 { get }

  /// See ``OverlayKind/storesContents``.
  static var storesContents: Bool { get }

  /// Whether every program that reads version 1 of the store's format knows the kind. `false` for new ones:
  /// a store that has one of their overlays names a feature, and programs without it refuse the store.
  static var isInVersion1: Bool { get }

  // MARK: Rules

  /// Whether the guest may place the page outside its RAM, where it covers nothing.
  static var mayBeOutsideRAM: Bool { get }

  /// Whether the page exists only while the guest OS ID is not 0.
  static var needsGuestOSID: Bool { get }

  /// Whether bit 1 of the register locks it until the VM resets.
  static var hasLock: Bool { get }

  /// What is wrong with the parameters, and the key of the value at fault; `nil`: nothing is.
  var defect: (key: String, message: String)? { get }

  // MARK: Parameters in JSON

  /// All keys that ``jsonMembers`` may have.
  static var parameterKeys: [String] { get }

  /// Reads the parameters' keys.
  ///
  /// - Parameter contents: The page of a kind that stores its contents; `nil` for the others.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, which names the value at fault.
  init(_ object: StrictJSONObject, contents: PageContents?) throws(VMCheckpointError)

  /// The keys and their values in JSON, sorted by key, the same in overlays.json and in the store.
  ///
  /// 64-bit values are strings `"0x…"`: many JSON readers keep 53 bits of a number.
  var jsonMembers: [(key: String, json: String)] { get }

  /// The kind's part of the JSON Schema of overlays.json.
  static var jsonSchema: OverlayKindSchema { get }

  // MARK: The page

  /// The page that the guest sees when the overlay is active: derived from the parameters, or as stored.
  var contents: PageContents { get }

  /// See ``Overlay/determinedByteCount``.
  var determinedByteCount: Int { get }

  // MARK: Another host

  /// The parameters for a guest that goes on on another host; see
  /// ``Overlay/retargeted(tscFrequencyHz:cpuVendor:)``.
  func retargeted(tscFrequencyHz: UInt64?, cpuVendor: CPUVendor?) throws(VMCheckpointError) -> Self

  /// The vendor of the CPUs that the page is made for; `nil` when that does not matter.
  var cpuVendor: CPUVendor? { get }

  /// The frequency of the guest's TSC, where the parameters say it.
  var tscFrequencyHz: UInt64? { get }
}

/// What holds for most kinds.
extension OverlayKindDefinition {
  package static var storesContents: Bool { false }
  package static var isInVersion1: Bool { false }
  package static var mayBeOutsideRAM: Bool { false }
  package static var needsGuestOSID: Bool { false }
  package static var hasLock: Bool { false }
  package var defect: (key: String, message: String)? { nil }
  package var determinedByteCount: Int { Page.byteCount }
  package var cpuVendor: CPUVendor? { nil }
  package var tscFrequencyHz: UInt64? { nil }

  package func retargeted(
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> Self { self }
}

extension OverlayKindDefinition {
  package static var kind: OverlayKind { OverlayKind(Self.self) }
}

/// What a kind says of itself in the JSON Schema of overlays.json, beside the keys that all have.
package struct OverlayKindSchema: Sendable {
  /// A sentence.
  package var description: String

  /// The keys of the parameters that an overlay always has.
  package var required: [String]

  /// A member of the JSON object `properties` for each key of the parameters, in JSON.
  package var properties: [String]

  /// Further members of the kind's schema, in JSON.
  package var rules: [String]

  package init(
    description: String,
    required: [String] = [],
    properties: [String] = [],
    rules: [String] = []
  ) {
    self.description = description
    self.required = required
    self.properties = properties
    self.rules = rules
  }
}
