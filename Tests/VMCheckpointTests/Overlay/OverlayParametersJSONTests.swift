import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("Overlay parameters in the store")
struct OverlayParametersJSONTests {
  @Test(
    "the stored spelling never changes",
    arguments: [
      (Overlay(pfn: .at(1), parameters: .hypercall(.xenVMMCall)), #"{"variant":"xen-vmmcall"}"#),
      (
        Overlay(pfn: .at(1), parameters: .hypercall(.vmcall), msrBits: .locked),
        #"{"msr_bits":"0x2","variant":"vmcall"}"#
      ),
      (
        Overlay(pfn: .at(1), parameters: .referenceTSC(.frequency(hz: 2_400_000_000))),
        #"{"tsc_frequency_hz":2400000000}"#
      ),
      (
        Overlay(
          pfn: .at(1),
          parameters: .referenceTSC(.page(sequence: 7, scale: .max, offset: -12)),
          msrBits: OverlayMSRBits(rawValue: 0xffe)
        ),
        #"{"msr_bits":"0xffe","offset":-12,"scale":"0xffffffffffffffff","sequence":7}"#
      ),
      (Overlay(pfn: .at(1), parameters: .vpAssist(.zero), vp: 9), "{}"),
      (
        Overlay(
          pfn: .at(1),
          parameters: .synicEvent(.zero),
          vp: 9,
          msrBits: OverlayMSRBits(rawValue: 0x10)
        ),
        #"{"msr_bits":"0x10"}"#
      ),
    ]
  )
  func spelling(overlay: Overlay, json: String) {
    #expect(overlay.parametersJSON == json)
  }

  @Test("an overlay comes back from its row")
  func roundTrip() throws {
    var generator = OverlayTestGenerator(seed: 11)
    for _ in 0..<2000 {
      let overlay = generator.overlay(at: .at(generator.next() >> 12))
      let again = try Overlay(
        kind: overlay.kind,
        vp: overlay.vp,
        pfn: overlay.pfn,
        parametersJSON: overlay.parametersJSON,
        contents: overlay.parameters.storedContents
      )
      #expect(again == overlay)
    }
  }

  @Test("a damaged row is refused with the overlay's name")
  func refusals() {
    func expect(
      _ message: String,
      _ kind: OverlayKind,
      vp: UInt32 = 0,
      _ json: String,
      contents: PageContents? = nil,
      sourceLocation: SourceLocation = #_sourceLocation
    ) {
      let error = #expect(throws: VMCheckpointError.self, sourceLocation: sourceLocation) {
        try Overlay(kind: kind, vp: vp, pfn: .at(0x4000), parametersJSON: json, contents: contents)
      }
      #expect(
        error == VMCheckpointError(.invalidData, message),
        sourceLocation: sourceLocation
      )
    }
    let hypercall = "the hypercall overlay at PFN 0x4000"
    expect(
      "\(hypercall) has invalid parameters: expected a value (line 1, column 1)",
      .hypercall,
      ""
    )
    expect(
      "\(hypercall) has invalid parameters: expected an object, found an array",
      .hypercall,
      "[]"
    )
    expect("\(hypercall) has invalid parameters: variant: missing", .hypercall, "{}")
    expect(
      "\(hypercall) has invalid parameters: pfn: unknown key",
      .hypercall,
      #"{"pfn":1,"variant":"vmcall"}"#
    )
    expect(
      "\(hypercall) has parameters of more than 4096 bytes",
      .hypercall,
      String(repeating: " ", count: 4097)
    )
    expect(
      "\(hypercall) has contents, which follow from its parameters",
      .hypercall,
      #"{"variant":"vmcall"}"#,
      contents: .zero
    )
    expect(
      "the vp-assist overlay of VP 2 at PFN 0x4000 has no contents",
      .vpAssist,
      vp: 2,
      "{}"
    )
    expect(
      "\(hypercall) belongs to the VM, but names VP 2",
      .hypercall,
      vp: 2,
      #"{"variant":"vmcall"}"#
    )
    expect(
      "the reference-tsc overlay at PFN 0x4000 has invalid parameters: "
        + "tsc_frequency_hz: out of range: expected 1 to 9223372036854775807",
      .referenceTSC,
      #"{"tsc_frequency_hz":0}"#
    )
    expect(
      "the synic-event overlay of VP 0 at PFN 0x4000 has invalid parameters: "
        + "variant: unknown key",
      .synicEvent,
      #"{"variant":"vmcall"}"#,
      contents: .zero
    )
  }
}
