/// What distinguishes two overlays of one kind. Kind and parameters determine the page.
///
///     OverlayParameters.hypercall(.vmcall)
///     OverlayParameters.referenceTSC(.frequency(hz: 2_400_000_000))
///     OverlayParameters.vpAssist(page)
public struct OverlayParameters: Sendable {
  /// Of one of the types in the folder Kinds.
  package let value: any OverlayKindDefinition

  package init(_ value: any OverlayKindDefinition) {
    self.value = value
  }

  /// The parameters of a kind that stores its contents; `nil` for the other kinds.
  public static func stored(_ kind: OverlayKind, _ contents: PageContents) -> OverlayParameters? {
    guard let definition = kind.definition as? any GuestWritablePage.Type else { return nil }
    return OverlayParameters(definition.init(contents: contents))
  }

  /// The kind that these parameters belong to.
  public var kind: OverlayKind { OverlayKind(type(of: value)) }

  /// The bytes that the guest may write; `nil` for kinds whose contents are derived.
  public var storedContents: PageContents? { kind.storesContents ? value.contents : nil }
}

extension OverlayParameters: Hashable {
  /// Whether kind and parameters are the same.
  public static func == (lhs: OverlayParameters, rhs: OverlayParameters) -> Bool {
    func equals<Value: OverlayKindDefinition>(_ left: Value) -> Bool {
      left == rhs.value as? Value
    }
    return equals(lhs.value)
  }

  /// Feeds kind and parameters to `hasher`.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(kind)
    value.hash(into: &hasher)
  }
}

extension OverlayParameters {
  /// Reads the parameters' keys.
  ///
  /// - Parameter contents: The page of a kind that stores its contents; `nil` for the others.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, which names the value at fault.
  package init(
    kind: OverlayKind,
    object: StrictJSONObject,
    contents: PageContents?
  ) throws(VMCheckpointError) {
    value = try kind.definition.init(object, contents: contents)
    if let defect = value.defect { throw object.invalid(defect.key, defect.message) }
  }

  /// The keys and their values in JSON, sorted by key: those of the kind, and `msr_bits` where bits 11:1 of
  /// the register are not 0.
  package func jsonMembers(msrBits: OverlayMSRBits) -> [(key: String, json: String)] {
    guard !msrBits.isEmpty else { return value.jsonMembers }
    let bits = (OverlayMSRBits.key, "\"\(hexString(UInt64(msrBits.rawValue)))\"")
    return (value.jsonMembers + [bits]).sorted { $0.key < $1.key }
  }
}
