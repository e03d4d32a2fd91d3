import Foundation
import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointTestSupport

@Suite("Overlay kinds")
struct OverlayKindTests {
  @Test("names, priorities and registers are never given twice")
  func identitiesAreUnique() {
    let kinds = OverlayKind.allCases
    #expect(Set(kinds.map(\.rawValue)).count == kinds.count)
    #expect(kinds.map(\.priority) == Array(0..<kinds.count))
    #expect(Set(kinds.map(\.msrIndex)).count == kinds.count)
  }

  /// `VMCKPT_RECORD=1 swift test --filter jsonSchemaIsTheOneOfTheKinds` writes the file anew.
  @Test func jsonSchemaIsTheOneOfTheKinds() throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../../Schema/overlays.schema.json").standardizedFileURL
    if environmentValue("VMCKPT_RECORD") == "1" {
      try Data(OverlayDocument.jsonSchema.utf8).write(to: path)
    }
    #expect(try String(contentsOf: path, encoding: .utf8) == OverlayDocument.jsonSchema)
    _ = try JSONSerialization.jsonObject(with: Data(OverlayDocument.jsonSchema.utf8))
  }

  // In processes of their own: the kind is known to a whole process.

  @Test func aNewKindNeedsNothingButItsFile() async {
    await #expect(processExitsWith: .success) {
      OverlayKindAdditions.add(CounterPage.self)
      let bench = try Workbench()
      let (ram, assist) = (sampleRAM(4), PageContents(Array(repeating: 7, count: 4096))!)
      let json = """
        {"format": 1, "overlays": [
          {"kind": "counter", "vp": 2, "pfn": "0x1", "count": "0x1234", "msr_bits": 4},
          {"kind": "counter", "vp": 0, "pfn": 2, "count": 5},
          {"kind": "vp-assist", "vp": 9, "pfn": 2, "contents": "\(assist.base64)"},
          {"kind": "counter", "vp": 1, "pfn": "0x90000", "count": 1}
        ]}
        """
      let document = try OverlayDocument(json: Array(json.utf8))
      let request = SaveRequest(
        input: .file(path: try bench.write("guest.ram", ram)),
        name: "guest",
        overlays: document
      )
      _ = try Store.save(request, toStoreAt: bench.storePath)

      let store = try Store.open(at: bench.storePath)
      func restored(_ vendor: CPUVendor?) throws -> (ram: [UInt8], overlays: OverlayDocument) {
        let (file, overlays) = (bench.directory.file("out.ram"), bench.directory.file("out.json"))
        _ = try store.restore(
          RestoreRequest(
            reference: SnapshotReference("guest"),
            output: .file(path: file),
            overlaysOutputPath: overlays,
            overwrites: true,
            cpuVendor: vendor
          )
        )
        return (
          Array(try Data(contentsOf: URL(filePath: file))),
          try OverlayDocument(json: Array(try Data(contentsOf: URL(filePath: overlays))))
        )
      }
      var expected = ram
      expected.replaceSubrange(4096..<8192, with: CounterPage(count: 0x1234).contents.bytes)
      expected.replaceSubrange(8192..<12288, with: assist.bytes)
      let same = try restored(nil)
      #expect(same.ram == expected)
      #expect(Set(same.overlays.records.map(\.overlay)) == Set(document.records.map(\.overlay)))
      #expect(same.overlays.records.compactMap(\.underlay).count == 2)

      expected.replaceSubrange(4096..<8192, with: CounterPage(count: 0x1235).contents.bytes)
      #expect(try restored(.amd).ram == expected)

      #expect(try store.verify().problems.isEmpty)
      #expect(
        try bench.sql.run(
          "SELECT * FROM overlay_kind WHERE priority > 4; SELECT * FROM feature WHERE name <> 'verifications'"
        )
          == "counter|5|vp|derived\noverlay-kind counter|reader"
      )
      #expect(
        try bench.sql.run("SELECT parameters FROM overlay WHERE pfn = 1")
          == #"{"count":"0x1234","msr_bits":"0x4"}"#
      )
      #expect(OverlayDocument.jsonSchema.contains(##"{ "$ref": "#/$defs/counter" }"##))
    }
  }

  @Test func programsWithoutAKindRefuseAStoreThatHasIt() async {
    await #expect(processExitsWith: .success) {
      OverlayKindAdditions.add(CounterPage.self)
      let bench = try Workbench()
      let guest = try bench.write("guest.ram", sampleRAM(4))
      func save(_ parameters: OverlayParameters) throws {
        let overlay = Overlay(pfn: PFN(rawValue: 1)!, parameters: parameters)
        _ = try Store.save(
          SaveRequest(
            input: .file(path: guest),
            overlays: OverlayDocument(guestOSID: nil, records: [OverlayRecord(overlay: overlay)])
          ),
          toStoreAt: bench.storePath
        )
      }
      // A kind that no overlay has concerns nobody.
      try save(.hypercall(.vmcall))
      try bench.tool.succeed("verify")

      try save(OverlayParameters(CounterPage(count: 1)))
      let refused = try bench.tool.run("list")
      #expect(refused.ending == .exit(65))
      #expect(refused.standardError.contains(#"has the feature "overlay-kind counter""#))
      let asked = try ExtensionShell(bench.storePath).start("SELECT page_data('1', 1);")
      #expect(asked.standardError.contains(#"feature "overlay-kind counter""#))
    }
  }

  @Test func aDefectOfANewKindIsRefusedByItsKey() async {
    await #expect(processExitsWith: .success) {
      OverlayKindAdditions.add(CounterPage.self)
      func message(_ members: String) -> String? {
        let json = #"{"format":1,"overlays":[{"kind":"counter","vp":0,"pfn":1,\#(members)}]}"#
        do {
          _ = try OverlayDocument(json: Array(json.utf8))
          return nil
        } catch {
          return error.message
        }
      }
      #expect(message(#""count":0"#) == "overlays[0].count: a counter begins at 1")
      #expect(message(#""steps":1"#) == "overlays[0].steps: unknown key")
      #expect(message(#""step":1"#) == "overlays[0].count: missing")
      #expect(message(#""count":1"#) == nil)
    }
  }
}
