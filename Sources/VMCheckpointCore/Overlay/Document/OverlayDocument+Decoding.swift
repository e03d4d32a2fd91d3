extension OverlayDocument {
  /// Reads an overlays.json that nobody has vouched for.
  ///
  /// Checks the document by itself; ``validated(in:)`` checks it against a guest's RAM.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`. The message names the value at
  ///   fault, such as `overlays[2].pfn`, and never repeats page contents.
  public init(json: [UInt8]) throws(VMCheckpointError) {
    guard json.count <= Self.maximumByteCount else {
      throw .invalidData(
        "an overlays file has at most \(Self.maximumByteCount) bytes, not \(json.count)"
      )
    }
    let root = try StrictJSONReader.read(json, maximumValueCount: Self.maximumValueCount)
    let document = try StrictJSONObject(root, at: JSONPath())

    // First, because a later format may have other keys.
    let format = try document.uint32("format")
    guard format == Self.format else {
      throw document.invalid(
        "format",
        "format \(format) is unknown; this version reads format \(Self.format)"
      )
    }
    try document.rejectUnknownKeys(allowed: ["format", "guest_os_id", "overlays"])

    let guestOSID = document.contains("guest_os_id") ? try document.uint64("guest_os_id") : nil
    let overlays = try document.value("overlays")
    guard case .array(let elements) = overlays else {
      throw document.invalid(
        "overlays",
        "expected an array, found \(overlays.typeDescription)"
      )
    }
    guard elements.count <= Self.maximumRecordCount else {
      throw document.invalid(
        "overlays",
        "\(elements.count) overlays are more than the \(Self.maximumRecordCount) allowed"
      )
    }
    var records: [OverlayRecord] = []
    records.reserveCapacity(elements.count)
    for (index, element) in elements.enumerated() {
      let path = JSONPath(components: [.key("overlays"), .index(index)])
      records.append(try OverlayRecord(StrictJSONObject(element, at: path)))
    }
    self.init(guestOSID: guestOSID, records: records)
  }

  /// 16 for each record: the largest has 8, itself included.
  private static let maximumValueCount = maximumRecordCount * 16
}

extension OverlayRecord {
  /// Reads an element of `overlays`.
  fileprivate init(_ object: StrictJSONObject) throws(VMCheckpointError) {
    let kindName = try object.string("kind")
    guard let kind = OverlayKind(rawValue: kindName) else {
      throw object.invalid(
        "kind",
        "unknown kind \(quotedForMessage(kindName)); expected one of \(rawValues(OverlayKind.self))"
      )
    }
    var allowed = kind.parameterKeys.union(["kind", "pfn", "underlay"])
    if kind.scope == .vp { allowed.insert("vp") }
    if kind.storesContents { allowed.insert("contents") }
    try object.rejectUnknownKeys(allowed: allowed) { key in
      switch key {
      case "vp": "a \(kind) overlay belongs to the VM, not to a virtual processor"
      case "contents": "the contents of a \(kind) overlay follow from its parameters"
      default: nil
      }
    }

    let pfnValue = try object.uint64("pfn")
    guard let pfn = PFN(rawValue: pfnValue) else {
      throw object.invalid(
        "pfn",
        "\(hexString(pfnValue)) has more than 52 bits; a PFN is a GPA without its last 12 bits"
      )
    }
    let vp = kind.scope == .vp ? try object.uint32("vp") : 0
    let contents = kind.storesContents ? try object.page("contents") : nil
    let overlay = Overlay(
      pfn: pfn,
      parameters: try OverlayParameters(kind: kind, object: object, contents: contents),
      vp: vp,
      msrBits: try OverlayMSRBits(object)
    )
    self.init(
      overlay: overlay,
      underlay: object.contains("underlay") ? try object.underlay("underlay") : nil
    )
  }
}

extension StrictJSONObject {
  /// Base64 of exactly 4096 bytes.
  fileprivate func page(_ key: String) throws(VMCheckpointError) -> PageContents {
    try page(key, base64: try string(key))
  }

  fileprivate func underlay(_ key: String) throws(VMCheckpointError) -> CapturedUnderlay {
    switch try string(key) {
    case "zero": .zero
    case "unknown": .unknown
    case let base64: .page(try page(key, base64: base64, or: "\"zero\", \"unknown\" or "))
    }
  }

  private func page(
    _ key: String,
    base64: String,
    or alternatives: String = ""
  ) throws(VMCheckpointError) -> PageContents {
    let bytes: [UInt8]
    do {
      bytes = try Base64.decode(base64)
    } catch {
      throw invalid(
        key,
        "expected \(alternatives)a page in base64; character \(error.offset + 1) of "
          + "\(base64.utf8.count) is wrong"
      )
    }
    guard let contents = PageContents(bytes) else {
      throw invalid(
        key,
        "expected \(alternatives)a page in base64: \(Page.byteCount) bytes, not \(bytes.count)"
      )
    }
    return contents
  }
}
