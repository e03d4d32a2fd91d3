extension OverlayDocument {
  /// The JSON Schema of overlays.json: what `Schema/overlays.schema.json` holds.
  package static var jsonSchema: String {
    let kinds = OverlayKind.allCases
    let choices = kinds.map { ##"{ "$ref": "#/$defs/\##($0)" }"## }.joined(separator: ",\n")
    let definitions = kinds.map(\.schemaDefinition) + [commonDefinitions]
    return """
      {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "overlays.json",
        "description": "The hypervisor overlay pages that covered a guest's RAM at one moment: input of `vmckpt save --overlays`, output of `vmckpt restore --overlays-out`. vmckpt is stricter than this schema: no key twice, no 1.0 for 1, at one PFN no two overlays of one kind (and virtual processor), every PFN in the guest's RAM (except for \(names { $0.mayBeOutsideRAM })), no \(names { $0.needsGuestOSID }) overlay while guest_os_id is 0, and one underlay for each PFN.",
        "type": "object",
        "required": ["format", "overlays"],
        "additionalProperties": false,
        "properties": {
          "format": {
            "description": "The version of this format.",
            "const": \(format)
          },
          "guest_os_id": {
            "description": "What the guest wrote to HV_X64_MSR_GUEST_OS_ID (0x40000000). Absent: unknown. 0: the guest never set it.",
            "$ref": "#/$defs/uint64"
          },
          "overlays": {
            "description": "The enabled overlays, in any order.",
            "type": "array",
            "maxItems": \(maximumRecordCount),
            "items": {
              "oneOf": [
      \(indented(choices, by: 10))
              ]
            }
          }
        },
        "$defs": {
      \(indented(definitions.joined(separator: ",\n"), by: 4))
        }
      }

      """
  }

  private static func names(where isSuch: (any OverlayKindDefinition.Type) -> Bool) -> String {
    OverlayKind.allCases.filter { isSuch($0.definition) }.map(\.rawValue).joined(separator: ", ")
  }

  /// What the kinds' schemas refer to.
  private static var commonDefinitions: String {
    ##"""
    "pfn": {
      "description": "The page that the overlay covers: its guest-physical address >> 12.",
      "oneOf": [
        { "type": "integer", "minimum": 0, "maximum": 4503599627370495 },
        { "type": "string", "pattern": "^0x0{0,3}[0-9a-fA-F]{1,13}$" }
      ]
    },
    "vp": {
      "description": "The virtual processor whose register places the page.",
      "type": "integer",
      "minimum": 0,
      "maximum": 4294967295
    },
    "msr_bits": {
      "description": "Bits 11:1 of the register that places the overlay, in place; bit 1 of the hypercall register (2) is Locked. Absent: 0.",
      "oneOf": [
        { "type": "integer", "minimum": 0, "maximum": 4094, "multipleOf": 2 },
        { "type": "string", "pattern": "^0x0{0,13}[0-9a-fA-F]{0,2}[02468aceACE]$" }
      ]
    },
    "underlay": {
      "description": "What captured RAM shows at the PFN. Absent: RAM is bare, or another record of the PFN says. \"zero\" or a page: RAM shows the overlay, and this lies beneath. \"unknown\": the overlay was written over RAM, and what lay beneath is lost.",
      "oneOf": [{ "enum": ["zero", "unknown"] }, { "$ref": "#/$defs/page" }]
    },
    "page": {
      "description": "4096 bytes in base64 (RFC 4648, section 4).",
      "type": "string",
      "contentEncoding": "base64",
      "pattern": "^[A-Za-z0-9+/]{5461}[AQgw]==$"
    },
    "hex64": {
      "type": "string",
      "pattern": "^0x[0-9a-fA-F]{1,16}$"
    },
    "uint64": {
      "oneOf": [
        { "type": "integer", "minimum": 0, "maximum": 18446744073709551615 },
        { "$ref": "#/$defs/hex64" }
      ]
    },
    "int64": {
      "oneOf": [
        { "type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807 },
        { "$ref": "#/$defs/hex64" }
      ]
    },
    "positive-int64": {
      "oneOf": [
        { "type": "integer", "minimum": 1, "maximum": 9223372036854775807 },
        { "type": "string", "maxLength": 18, "pattern": "^0x0*[1-9a-fA-F][0-9a-fA-F]*$" }
      ]
    }
    """##
  }
}

extension OverlayKind {
  /// The member of `$defs` for overlays of this kind.
  fileprivate var schemaDefinition: String {
    let own = definition.jsonSchema
    var required = ["kind", "pfn"]
    var properties = [#""kind": { "const": "\#(rawValue)" }"#]
    if scope == .vp {
      required.append("vp")
      properties.append(##""vp": { "$ref": "#/$defs/vp" }"##)
    }
    properties.append(##""pfn": { "$ref": "#/$defs/pfn" }"##)
    required += own.required
    properties += own.properties
    if storesContents {
      required.append("contents")
      properties.append(##""contents": { "$ref": "#/$defs/page" }"##)
    }
    properties.append(##""msr_bits": { "$ref": "#/$defs/msr_bits" }"##)
    properties.append(##""underlay": { "$ref": "#/$defs/underlay" }"##)
    let members =
      [
        #""description": "\#(own.description)""#,
        #""type": "object""#,
        #""required": [\#(required.map { "\"\($0)\"" }.joined(separator: ", "))]"#,
        #""additionalProperties": false"#,
        "\"properties\": {\n\(indented(properties.joined(separator: ",\n"), by: 2))\n}",
      ] + own.rules
    return "\"\(rawValue)\": {\n\(indented(members.joined(separator: ",\n"), by: 2))\n}"
  }
}

private func indented(_ text: String, by width: Int) -> String {
  let spaces = String(repeating: " ", count: width)
  return text.split(separator: "\n", omittingEmptySubsequences: false)
    .map { $0.isEmpty ? "" : spaces + $0 }
    .joined(separator: "\n")
}
