extension OverlayDocument {
  /// The overlays.json of this document: indented, one key a line, always the same for equal
  /// documents, with a newline at its end. ``init(json:)`` reads the same document from it.
  public func encodedJSON() -> String {
    var members: [(key: String, json: String)] = [("format", "\(Self.format)")]
    if let guestOSID {
      members.append(("guest_os_id", "\"\(hexString(guestOSID))\""))
    }
    let elements = records.map { Self.object($0.jsonMembers, indentation: "    ") }
    let list = elements.map { "\n    \($0)" }.joined(separator: ",")
    members.append(("overlays", records.isEmpty ? "[]" : "[\(list)\n  ]"))
    return Self.object(members, indentation: "") + "\n"
  }

  private static func object(
    _ members: [(key: String, json: String)],
    indentation: String
  ) -> String {
    let lines = members.map { "\(indentation)  \"\($0.key)\": \($0.json)" }
    return "{\n\(lines.joined(separator: ",\n"))\n\(indentation)}"
  }
}

extension OverlayRecord {
  fileprivate var jsonMembers: [(key: String, json: String)] {
    var members: [(key: String, json: String)] = [("kind", "\"\(overlay.kind.rawValue)\"")]
    if overlay.kind.scope == .vp {
      members.append(("vp", "\(overlay.vp)"))
    }
    members.append(("pfn", "\"\(overlay.pfn)\""))
    members += overlay.parameters.jsonMembers(msrBits: overlay.msrBits)
    if let contents = overlay.parameters.storedContents {
      members.append(("contents", "\"\(contents.base64)\""))
    }
    switch underlay {
    case .zero: members.append(("underlay", "\"zero\""))
    case .unknown: members.append(("underlay", "\"unknown\""))
    case .page(let contents): members.append(("underlay", "\"\(contents.base64)\""))
    case nil: break
    }
    return members
  }
}
