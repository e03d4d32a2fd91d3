extension Overlay {
  /// The parameters as the store keeps them in `overlay.parameters`: a JSON object with sorted
  /// keys and no spaces, one spelling for each value, without the contents of kinds that store
  /// them.
  ///
  ///     {"variant":"vmcall"}
  ///     {"tsc_frequency_hz":2400000000}
  ///     {"offset":-12,"scale":"0x1111111111111","sequence":7}
  ///     {"msr_bits":"0x2","variant":"vmcall"}
  ///     {}
  public var parametersJSON: String {
    let members = parameters.jsonMembers(msrBits: msrBits).map { "\"\($0.key)\":\($0.json)" }
    return "{\(members.joined(separator: ","))}"
  }

  /// The longest ``parametersJSON`` has about 80 bytes.
  package static let maximumParametersByteCount = 4096

  /// Reads an overlay from a store's row: the inverse of ``parametersJSON``.
  ///
  /// - Parameter contents: The page of a kind that stores its contents; `nil` for the others.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when the parameters are not
  ///   those of `kind`, `contents` is missing or too much, or a VM's overlay has a virtual
  ///   processor.
  public init(
    kind: OverlayKind,
    vp: UInt32,
    pfn: PFN,
    parametersJSON: String,
    contents: PageContents?
  ) throws(VMCheckpointError) {
    let name = "the \(Self.describe(kind: kind, vp: vp, pfn: pfn))"
    guard kind.scope == .vp || vp == 0 else {
      throw .invalidData("\(name) belongs to the VM, but names VP \(vp)")
    }
    guard kind.storesContents == (contents != nil) else {
      throw .invalidData(
        contents == nil
          ? "\(name) has no contents" : "\(name) has contents, which follow from its parameters"
      )
    }
    guard parametersJSON.utf8.count <= Self.maximumParametersByteCount else {
      throw .invalidData(
        "\(name) has parameters of more than \(Self.maximumParametersByteCount) bytes"
      )
    }
    do throws(VMCheckpointError) {
      let value = try StrictJSONReader.read(
        Array(parametersJSON.utf8),
        maximumValueCount: Self.maximumParametersByteCount
      )
      let object = try StrictJSONObject(value, at: JSONPath())
      try object.rejectUnknownKeys(allowed: kind.parameterKeys)
      self.init(
        pfn: pfn,
        parameters: try OverlayParameters(kind: kind, object: object, contents: contents),
        vp: vp,
        msrBits: try OverlayMSRBits(object)
      )
    } catch {
      throw .invalidData("\(name) has invalid parameters: \(error.message)")
    }
  }
}
