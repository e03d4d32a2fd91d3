import Foundation
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("overlays.json")
struct OverlayDocumentTests {
  private static let stored = PageContents((0..<4096).map { UInt8(truncatingIfNeeded: $0 * 7) })!

  private static let everything = OverlayDocument(
    guestOSID: 0x8100_0006_0100_0000,
    records: [
      OverlayRecord(
        overlay: Overlay(
          pfn: .at(0x4000),
          parameters: .hypercall(.returnNotSupported),
          msrBits: .locked
        ),
        underlay: .zero
      ),
      OverlayRecord(
        overlay: Overlay(
          pfn: .at(0x4001),
          parameters: .referenceTSC(.frequency(hz: 2_400_000_000))
        )
      ),
      OverlayRecord(
        overlay: Overlay(
          pfn: .at(0x4002),
          parameters: .referenceTSC(.page(sequence: 7, scale: 0x111_1111_1111_1111, offset: -12))
        ),
        underlay: .unknown
      ),
      OverlayRecord(
        overlay: Overlay(pfn: .at(0x4003), parameters: .synicMessage(stored), vp: 3),
        underlay: .page(stored)
      ),
    ]
  )

  private static let everythingJSON = """
    {
      "format": 1,
      "guest_os_id": "0x8100000601000000",
      "overlays": [
        {
          "kind": "hypercall",
          "pfn": "0x4000",
          "msr_bits": "0x2",
          "variant": "return-not-supported",
          "underlay": "zero"
        },
        {
          "kind": "reference-tsc",
          "pfn": "0x4001",
          "tsc_frequency_hz": 2400000000
        },
        {
          "kind": "reference-tsc",
          "pfn": "0x4002",
          "offset": -12,
          "scale": "0x111111111111111",
          "sequence": 7,
          "underlay": "unknown"
        },
        {
          "kind": "synic-message",
          "vp": 3,
          "pfn": "0x4003",
          "contents": "\(stored.base64)",
          "underlay": "\(stored.base64)"
        }
      ]
    }

    """

  @Test("the written form never changes, and is read as what it was written from")
  func golden() throws {
    #expect(Self.everything.encodedJSON() == Self.everythingJSON)
    #expect(try OverlayDocument(json: Array(Self.everythingJSON.utf8)) == Self.everything)
  }

  @Test("a document without overlays is written and read")
  func empty() throws {
    let document = OverlayDocument(guestOSID: nil, records: [])
    #expect(document.encodedJSON() == "{\n  \"format\": 1,\n  \"overlays\": []\n}\n")
    #expect(try OverlayDocument(json: Array(document.encodedJSON().utf8)) == document)
  }

  @Test("numbers beyond 2⁵³ stay exact, in every spelling")
  func exactNumbers() throws {
    let json = """
      { "overlays":[{"offset":-9223372036854775808,"scale":18446744073709551615,"sequence":0,
      "pfn":4503599627370495,"kind":"reference\\u002dtsc"},
      {"kind":"reference-tsc","pfn":"0x000FFFFFFFFFFFFF","sequence":4294967295,
      "scale":"0xffffffffffffFFFF","offset":"0x8000000000000000"},
      {"kind":"reference-tsc","pfn":-0,"sequence":1,"scale":9007199254740993,
      "offset":9223372036854775807, "msr_bits": 4094},
      {"kind":"reference-tsc","pfn":1,"tsc_frequency_hz":9223372036854775807}],
      "format":1,"guest_os_id":18446744073709551615}
      """
    let document = try OverlayDocument(json: Array(json.utf8))
    #expect(document.guestOSID == .max)
    #expect(
      document.records.map(\.overlay) == [
        Overlay(
          pfn: .max,
          parameters: .referenceTSC(.page(sequence: 0, scale: .max, offset: .min))
        ),
        Overlay(
          pfn: .max,
          parameters: .referenceTSC(.page(sequence: .max, scale: .max, offset: .min))
        ),
        Overlay(
          pfn: .at(0),
          parameters: .referenceTSC(
            .page(sequence: 1, scale: 9_007_199_254_740_993, offset: .max)
          ),
          msrBits: OverlayMSRBits(rawValue: 0xffe)
        ),
        Overlay(
          pfn: .at(1),
          parameters: .referenceTSC(.frequency(hz: UInt64(Int64.max)))
        ),
      ]
    )
  }

  @Test("a guest OS ID of 0 and an unknown one stay apart")
  func guestOSID() throws {
    for guestOSID in [nil, 0, 1] as [UInt64?] {
      let document = OverlayDocument(guestOSID: guestOSID, records: [])
      #expect(try OverlayDocument(json: Array(document.encodedJSON().utf8)) == document)
    }
  }

  @Test("every document is read as it was written")
  func roundTrip() throws {
    var generator = OverlayTestGenerator(seed: 7)
    for round in 0..<300 {
      let document = generator.overlayDocument(maximumRecordCount: 6)
      #expect(
        try OverlayDocument(json: Array(document.encodedJSON().utf8)) == document,
        "\(round)"
      )
    }
  }

  @Test("other JSON readers read what is written, and the same pages")
  func foundationAgrees() throws {
    var generator = OverlayTestGenerator(seed: 8)
    for _ in 0..<50 {
      let document = generator.overlayDocument(maximumRecordCount: 4)
      let json = try JSONSerialization.jsonObject(with: Data(document.encodedJSON().utf8))
      let root = try #require(json as? [String: Any])
      let overlays = try #require(root["overlays"] as? [[String: Any]])
      #expect(overlays.count == document.records.count)
      for (object, record) in zip(overlays, document.records) {
        #expect(object["kind"] as? String == record.overlay.kind.rawValue)
        guard record.overlay.kind.storesContents else { continue }
        let base64 = try #require(object["contents"] as? String)
        #expect(
          Data(base64Encoded: base64).map(Array.init) == record.overlay.contents().bytes
        )
      }
    }
  }

  /// Mutations of a document that keep most of its structure.
  @Test("no mutated document crashes the reader or gets through it changed")
  func mutations() {
    var generator = OverlayTestGenerator(seed: 9)
    var accepted = 0
    for _ in 0..<20_000 {
      var bytes = Self.mutationSeed
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        Self.mutate(&bytes, using: &generator)
      }
      do {
        let document = try OverlayDocument(json: bytes)
        accepted += 1
        #expect(throws: Never.self) {
          let again = try OverlayDocument(json: Array(document.encodedJSON().utf8))
          #expect(again == document)
        }
      } catch {
        #expect(error.code == .invalidData)
        #expect(!error.message.isEmpty && error.message.utf8.count < 400)
        #expect(error.message.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f })
        #expect(!error.message.contains("c2VjcmV0"), "repeats page contents")
      }
    }
    // Digits changed into digits, white space doubled: some must still be documents.
    #expect(accepted > 200)
  }

  /// Without long pages, so that mutations hit structure.
  private static let mutationSeed = Array(
    #"""
    {"format": 1, "guest_os_id": "0x8100000601000000", "overlays": [
      {"kind": "hypercall", "pfn": "0x4000", "variant": "vmcall", "underlay": "zero"},
      {"kind": "reference-tsc", "pfn": 16385, "tsc_frequency_hz": 2400000000},
      {"kind": "reference-tsc", "pfn": "0x4002", "sequence": 7, "scale": "0x12", "offset": -12},
      {"kind": "hypercall", "pfn": 7, "variant": "openvmm", "msr_bits": 2, "underlay": "unknown"}
    ]}
    """#.utf8
  )

  private static let fragments: [[UInt8]] = [
    "\"contents\": \"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\", ", "{", "}", "[", "]", "\"", ",",
    ":", "\\u0000", "\\ud83d\\ude00", "null", "true", "1e9", "-0", "18446744073709551616",
    "\u{7f}", "\u{202e}", "é", "\"vp\": 0,", "\"x\": {\"y\": []},", "[[[[[[[[[[[[[[[[[[",
  ].map { Array($0.utf8) }

  private static func mutate(_ bytes: inout [UInt8], using generator: inout OverlayTestGenerator) {
    let start = Int.random(in: 0..<bytes.count, using: &generator)
    let end = min(bytes.count, start + Int.random(in: 1...12, using: &generator))
    switch Int.random(in: 0..<6, using: &generator) {
    case 0: bytes[start] = .random(in: 0...255, using: &generator)
    case 1: bytes[start] = UInt8(ascii: "0") + .random(in: 0...9, using: &generator)
    case 2: bytes.removeSubrange(start..<end)
    case 3: bytes.insert(contentsOf: bytes[start..<end], at: start)
    case 4: bytes.insert(contentsOf: fragments.randomElement(using: &generator)!, at: start)
    default: bytes.removeSubrange(end...)
    }
    if bytes.isEmpty { bytes = [0x20] }
  }

  @Test("a document is read in time proportional to its size")
  func largeDocument() throws {
    let records = (0..<2048).map { vp in
      OverlayRecord(
        overlay: Overlay(
          pfn: .at(UInt64(vp)),
          parameters: .vpAssist(Self.stored),
          vp: UInt32(vp)
        )
      )
    }
    let document = OverlayDocument(guestOSID: nil, records: records)
    let read = try OverlayDocument(json: Array(document.encodedJSON().utf8))
    #expect(read == document)
  }
}
