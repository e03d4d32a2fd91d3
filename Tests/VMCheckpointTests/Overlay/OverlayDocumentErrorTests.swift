import Testing
import VMCheckpoint

/// One case for each way in which an overlays.json can be wrong, with the exact message.
@Suite("overlays.json: refusals")
struct OverlayDocumentErrorTests {
  struct Refusal: Sendable, CustomTestStringConvertible {
    var json: String
    var message: String
    var testDescription: String { message }

    init(_ json: String, _ message: String) {
      self.json = json
      self.message = message
    }

    /// A document with one record.
    init(record: String, _ message: String) {
      self.init(#"{"format": 1, "overlays": [\#(record)]}"#, message)
    }
  }

  static let page = PageContents.zero.base64

  static let syntax = [
    Refusal("", "expected a value (line 1, column 1)"),
    Refusal("\u{feff}{}", "expected a value (line 1, column 1)"),
    Refusal("{} {}", "expected the end of the document (line 1, column 4)"),
    Refusal(
      "{\"format\": 1,\n  \"overlays\": [}",
      "overlays[0]: expected a value (line 2, column 16)"
    ),
    Refusal("{\"format\" 1}", "format: expected \":\" (line 1, column 11)"),
    Refusal("{\"format\": 1", "expected \",\" or \"}\" (line 1, column 13)"),
    Refusal("{\"format\": 1,}", "expected a key in quotes (line 1, column 14)"),
    Refusal("{format: 1}", "expected a key in quotes (line 1, column 2)"),
    Refusal("{\"overlays\": [1 2]}", "overlays: expected \",\" or \"]\" (line 1, column 17)"),
    Refusal("{\"overlays\": [1, ]}", "overlays[1]: expected a value (line 1, column 18)"),
    Refusal("{\"format\": 01}", "format: a number does not start with 0 (line 1, column 14)"),
    Refusal("{\"format\": -}", "format: expected a digit (line 1, column 13)"),
    Refusal("{\"format\": 1.}", "format: expected a digit (line 1, column 14)"),
    Refusal("{\"format\": 1e+}", "format: expected a digit (line 1, column 15)"),
    Refusal("{\"format\": +1}", "format: expected a value (line 1, column 12)"),
    Refusal("{\"format\": NaN}", "format: expected a value (line 1, column 12)"),
    Refusal("{\"format\": nul}", "format: expected a value (line 1, column 12)"),
    Refusal("{\"format", "a string has no end (line 1, column 9)"),
    Refusal("{\"format\\", "a string has no end (line 1, column 10)"),
    Refusal(
      "{\"\(String(repeating: "a", count: 65_537))",
      "a string of more than 65536 bytes (line 1, column 65539)"
    ),
    Refusal("{\"a\\q\"}", "unknown escape in a string (line 1, column 5)"),
    Refusal("{\"\\u12G4\"}", "expected four hexadecimal digits (line 1, column 7)"),
    Refusal("{\"\\udc00\"}", "half a surrogate pair (line 1, column 9)"),
    Refusal("{\"\\ud800x\"}", "half a surrogate pair (line 1, column 9)"),
    Refusal("{\"\\ud800\\u0041\"}", "half a surrogate pair (line 1, column 15)"),
    Refusal(
      "{\"a\u{1}\"}",
      "a control character in a string has to be escaped (line 1, column 4)"
    ),
    Refusal(
      "{\"format\": 1, \"format\": 1}",
      "format: given twice (line 1, column 23)"
    ),
    Refusal(
      "{\"format\": 1, \"f\\u006frmat\": 1}",
      "format: given twice (line 1, column 28)"
    ),
    Refusal(
      String(repeating: "[", count: 100),
      String(repeating: "[0]", count: 16) + ": nested more than 16 levels deep (line 1, column 17)"
    ),
  ]

  static let document = [
    Refusal("[]", "expected an object, found an array"),
    Refusal("null", "expected an object, found null"),
    Refusal("{}", "format: missing"),
    Refusal(#"{"overlays": []}"#, "format: missing"),
    Refusal(#"{"format": 1}"#, "overlays: missing"),
    Refusal(
      #"{"format": 2, "layers": []}"#,
      "format: format 2 is unknown; this version reads format 1"
    ),
    Refusal(
      #"{"format": 0, "overlays": []}"#,
      "format: format 0 is unknown; this version reads format 1"
    ),
    Refusal(#"{"format": -1}"#, "format: out of range: expected 0 to 4294967295"),
    Refusal(
      #"{"format": 1.0}"#,
      "format: expected an integer, found a number that is not a 64-bit integer"
    ),
    Refusal(
      #"{"format": 1e0}"#,
      "format: expected an integer, found a number that is not a 64-bit integer"
    ),
    Refusal(#"{"format": "1"}"#, "format: expected an integer, found a string"),
    Refusal(#"{"format": true}"#, "format: expected an integer, found a boolean"),
    Refusal(#"{"format": 1, "overlays": {}}"#, "overlays: expected an array, found an object"),
    Refusal(#"{"format": 1, "overlays": [], "x": 1}"#, "x: unknown key"),
    Refusal(#"{"format": 1, "overlays": [], "": 1}"#, "\"\": unknown key"),
    Refusal(
      #"{"format": 1, "overlays": [], "a\nb\u001b[2J\u202e\"é": 1}"#,
      #""a\u{a}b\u{1b}[2J\u{202e}\"\u{e9}": unknown key"#
    ),
    Refusal(
      #"{"format": 1, "overlays": [], "\#(page)": 1}"#,
      "a string of 5464 bytes: unknown key"
    ),
    Refusal(
      #"{"format": 1, "guest_os_id": -1, "overlays": []}"#,
      "guest_os_id: out of range: expected 0 to 18446744073709551615"
    ),
    Refusal(
      #"{"format": 1, "guest_os_id": 18446744073709551616, "overlays": []}"#,
      "guest_os_id: expected an integer or a string \"0x…\", found a number that is not a 64-bit integer"
    ),
    Refusal(
      #"{"format": 1, "guest_os_id": null, "overlays": []}"#,
      "guest_os_id: expected an integer or a string \"0x…\", found null"
    ),
    Refusal(
      #"{"format": 1, "overlays": [\#(Array(repeating: "0", count: 16_385).joined(separator: ","))]}"#,
      "overlays: 16385 overlays are more than the 16384 allowed"
    ),
    Refusal(
      "[\(Array(repeating: "0", count: 262_144).joined(separator: ","))]",
      "[262143]: more than 262144 values (line 1, column 524288)"
    ),
  ]

  static let records = [
    Refusal(record: "1", "overlays[0]: expected an object, found a number"),
    Refusal(record: "{}", "overlays[0].kind: missing"),
    Refusal(record: #"{"kind": 1}"#, "overlays[0].kind: expected a string, found a number"),
    Refusal(
      record: #"{"kind": "hyper\u0007call"}"#,
      #"overlays[0].kind: unknown kind "hyper\u{7}call"; expected one of hypercall, "#
        + "reference-tsc, synic-message, synic-event, vp-assist"
    ),
    Refusal(
      record: #"{"kind": "\#(page)"}"#,
      "overlays[0].kind: unknown kind a string of 5464 bytes; expected one of hypercall, "
        + "reference-tsc, synic-message, synic-event, vp-assist"
    ),
    Refusal(
      record: #"{"kind": "hypercall", "variant": "vmcall"}"#,
      "overlays[0].pfn: missing"
    ),
    Refusal(record: #"{"kind": "hypercall", "pfn": 1}"#, "overlays[0].variant: missing"),
    Refusal(
      record: #"{"kind": "hypercall", "pfn": 1, "variant": "VMCALL"}"#,
      #"overlays[0].variant: unknown variant "VMCALL"; expected one of return-not-supported, "#
        + "vmcall, vmmcall, xen-vmcall, xen-vmmcall, openvmm"
    ),
    Refusal(
      record: #"{"kind": "hypercall", "pfn": 1, "variant": "vmcall", "vp": 0}"#,
      "overlays[0].vp: a hypercall overlay belongs to the VM, not to a virtual processor"
    ),
    Refusal(
      record: #"{"kind": "reference-tsc", "pfn": 1, "tsc_frequency_hz": 1, "contents": ""}"#,
      "overlays[0].contents: the contents of a reference-tsc overlay follow from its parameters"
    ),
    Refusal(
      record: #"{"kind": "hypercall", "pfn": 1, "variant": "vmcall", "scale": 1}"#,
      "overlays[0].scale: unknown key"
    ),
  ]

  static let numbers = [
    ("true", "expected an integer or a string \"0x…\", found a boolean"),
    ("1.5", "expected an integer or a string \"0x…\", found a number that is not a 64-bit integer"),
    ("1e3", "expected an integer or a string \"0x…\", found a number that is not a 64-bit integer"),
    (
      "16.0", "expected an integer or a string \"0x…\", found a number that is not a 64-bit integer"
    ),
    (#""12""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#""0x""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#""0X1""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#""0x+1""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#""0x-1""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#""0x1_0""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#""0x１""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (#"" 0x1""#, "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"),
    (
      #""0x00000000000000001""#,
      "expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"
    ),
    ("-1", "out of range: expected 0 to 18446744073709551615"),
    (
      "4503599627370496",
      "0x10000000000000 has more than 52 bits; a PFN is a GPA without its last 12 bits"
    ),
  ].map { value, message in
    Refusal(
      record: #"{"kind": "hypercall", "pfn": \#(value), "variant": "vmcall"}"#,
      "overlays[0].pfn: \(message)"
    )
  }

  static let referenceTSC = [
    ("", ": a reference-tsc overlay needs tsc_frequency_hz, or sequence, scale and offset"),
    (#", "sequence": 1, "scale": 1"#, ".offset: missing"),
    (#", "sequence": 1, "offset": 1"#, ".scale: missing"),
    (#", "offset": 1"#, ".sequence: missing"),
    (
      #", "tsc_frequency_hz": 1, "scale": 1"#,
      ".scale: not allowed together with tsc_frequency_hz"
    ),
    (
      #", "tsc_frequency_hz": 0"#,
      ".tsc_frequency_hz: out of range: expected 1 to 9223372036854775807"
    ),
    (
      #", "tsc_frequency_hz": 9223372036854775808"#,
      ".tsc_frequency_hz: out of range: expected 1 to 9223372036854775807"
    ),
    (
      #", "sequence": 4294967296, "scale": 1, "offset": 0"#,
      ".sequence: out of range: expected 0 to 4294967295"
    ),
    (
      #", "sequence": "0x1", "scale": 1, "offset": 0"#,
      ".sequence: expected an integer, found a string"
    ),
    (
      #", "sequence": 1, "scale": 1, "offset": 9223372036854775808"#,
      ".offset: out of range: expected -9223372036854775808 to 9223372036854775807"
    ),
    (
      #", "sequence": 1, "scale": 1, "offset": -9223372036854775809"#,
      ".offset: out of range: expected -9223372036854775808 to 9223372036854775807"
    ),
    (
      #", "tsc_frequency_hz": 1, "msr_bits": 1"#, ".msr_bits: only bits 11:1 may be set (0xffe)"
    ),
    (
      #", "tsc_frequency_hz": 1, "msr_bits": "0x1000""#,
      ".msr_bits: only bits 11:1 may be set (0xffe)"
    ),
  ].map { keys, message in
    Refusal(record: #"{"kind": "reference-tsc", "pfn": 1\#(keys)}"#, "overlays[0]\(message)")
  }

  static let pages = [
    (#""pfn": 1, "contents": "\#(page)""#, "vp: missing"),
    (#""pfn": 1, "vp": 4294967296, "contents": """#, "vp: out of range: expected 0 to 4294967295"),
    (#""pfn": 1, "vp": 0"#, "contents: missing"),
    (#""pfn": 1, "vp": 0, "contents": 1"#, "contents: expected a string, found a number"),
    (
      #""pfn": 1, "vp": 0, "contents": """#,
      "contents: expected a page in base64: 4096 bytes, not 0"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page.dropLast(4))""#,
      "contents: expected a page in base64: 4096 bytes, not 4095"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page.dropLast(3))=A=""#,
      "contents: expected a page in base64; character 5462 of 5464 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page.dropLast(1))A""#,
      "contents: expected a page in base64; character 5463 of 5464 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page.dropLast(2))""#,
      "contents: expected a page in base64; character 5463 of 5462 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page.dropLast(3))B==""#,
      "contents: expected a page in base64; character 5462 of 5464 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\n\#(page)""#,
      "contents: expected a page in base64; character 1 of 5465 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "____""#,
      "contents: expected a page in base64; character 1 of 4 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page)", "underlay": "none""#,
      "underlay: expected \"zero\", \"unknown\" or a page in base64: 4096 bytes, not 3"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page)", "underlay": "Zero!""#,
      "underlay: expected \"zero\", \"unknown\" or a page in base64; character 5 of 5 is wrong"
    ),
    (
      #""pfn": 1, "vp": 0, "contents": "\#(page)", "underlay": null"#,
      "underlay: expected a string, found null"
    ),
  ].map { keys, message in
    Refusal(record: #"{"kind": "vp-assist", \#(keys)}"#, "overlays[0].\(message)")
  }

  @Test(
    "a wrong document is refused with one line that says where and why",
    arguments: syntax + document + records + numbers + referenceTSC + pages
  )
  func refusal(_ refusal: Refusal) {
    let error = #expect(throws: VMCheckpointError.self) {
      try OverlayDocument(json: Array(refusal.json.utf8))
    }
    #expect(error?.code == .invalidData)
    #expect(error?.message == refusal.message)
    #expect(error?.message.unicodeScalars.allSatisfy { $0.value >= 0x20 } == true)
  }

  @Test("text that is not UTF-8 is refused", arguments: [0xff, 0xc0, 0xed] as [UInt8])
  func invalidUTF8(byte: UInt8) {
    let error = #expect(throws: VMCheckpointError.self) {
      try OverlayDocument(json: Array(#"{"a"#.utf8) + [byte] + Array(#"": 1}"#.utf8))
    }
    #expect(
      error == VMCheckpointError(.invalidData, "a string is not valid UTF-8 (line 1, column 5)")
    )
  }

  @Test("a file too large to be one is refused before it is read")
  func tooLarge() {
    let error = #expect(throws: VMCheckpointError.self) {
      try OverlayDocument(
        json: [UInt8](repeating: 0x20, count: OverlayDocument.maximumByteCount + 1)
      )
    }
    #expect(error?.message == "an overlays file has at most 268435456 bytes, not 268435457")
  }

  @Test("the largest document that the record limit allows fits the byte limit")
  func limitsAgree() throws {
    let page = PageContents.filled(0xff)
    let record = OverlayRecord(
      overlay: Overlay(
        pfn: .max,
        parameters: .synicMessage(page),
        vp: .max,
        msrBits: OverlayMSRBits(rawValue: .max)
      ),
      underlay: .page(page)
    )
    let one = OverlayDocument(guestOSID: .max, records: [record]).encodedJSON().utf8.count
    #expect(one * OverlayDocument.maximumRecordCount <= OverlayDocument.maximumByteCount)
  }
}
