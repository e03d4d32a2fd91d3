import Foundation
import Testing
import VMCheckpointTestSupport

/// RAM of VMware that is stored as one run has what is above 4 GiB at other addresses.
@Suite struct VMwareTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func regions(_ name: String) throws -> [String] {
    let regions = try bench.tool.json("show", name)["memory_regions"] as? [[String: Any]] ?? []
    return regions.map {
      "\(($0["gpa"] as? Int).map { String($0, radix: 16) } ?? "")+\($0["bytes"]!)"
    }
  }

  private static let ram = sampleRAM(40)

  /// RAM below and above 4 GiB, with tags and a block that do not matter.
  private static var state: VMwareBuilder {
    var state = VMwareBuilder()
    state.otherTags =
      VMwareBuilder.tag("align_mask", [1, 2, 3], 0xfff)
      + VMwareBuilder.block("screen", [1, 2, 3, 4, 5], padding: 9, isCompressed: true)
      + VMwareBuilder.tag("regionSize", [2], 99)
    state.regions = [
      .init(pfn: 0, pageIndex: 0, pageCount: 24), .init(pfn: 1 << 20, pageIndex: 24, pageCount: 16),
    ]
    return state
  }

  @Test(arguments: ["vmss", "vmsn"])
  func ramIsWhereTheStateHasIt(suffix: String) throws {
    let ram = try bench.write("web.vmem", Self.ram)
    let state = try bench.write("web.\(suffix)", Self.state.bytes)
    // The state by its first bytes; RAM, which has none to know it by, by its name.
    expectSuccess(try bench.tool.run("save", state, "--name", "a"))
    expectSuccess(try bench.tool.run("save", "vmware:\(ram)", "--name", "b"))
    expectSuccess(try bench.tool.run("save", ram, "--name", "c"))
    for name in ["a", "b", "c"] {
      #expect(try regions(name) == ["0+98304", "100000000+65536"])
      #expect(try bench.restore(name) == Self.ram)
    }
    #expect(try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot") == 1)
    let states = try bench.tool.json("show", "a")["device_states"] as? [[String: Any]] ?? []
    #expect(states.compactMap { $0["bytes"] as? Int } == [Self.state.bytes.count])
  }

  @Test func ramInTheStateIsRead() throws {
    var state = Self.state
    state.ram = Self.ram
    let path = try bench.write("web.vmss", state.bytes)
    let outcome = try bench.tool.run("save", path, "--name", "a")
    #expect(outcome.succeeded && outcome.standardError.contains("is not kept"), "\(outcome)")
    #expect(try regions("a") == ["0+98304", "100000000+65536"])
    #expect(try bench.restore("a") == Self.ram)
  }

  /// RAM of another moment, which would be taken in place of what was named.
  @Test func aStateWithRAMDoesNotStandForAnotherRAM() throws {
    var state = Self.state
    state.ram = Self.ram
    _ = try bench.write("web.vmss", state.bytes)
    let path = try bench.write("web.vmem", Self.ram)
    let outcome = try bench.tool.run("save", "vmware:\(path)", "--name", "a")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("web.vmss\" has RAM in it"), "\(outcome)")
  }

  @Test func ramOfVMwareIsNotStoredAsOneRun() throws {
    let path = try bench.write("web.vmem", Self.ram)
    let outcome = try bench.tool.run("save", path, "--name", "a")
    #expect(outcome.ending == .exit(66), "\(outcome)")
    #expect(outcome.standardError.contains("has no state beside it"), "\(outcome)")
    expectSuccess(try bench.tool.run("save", "raw:\(path)", "--name", "a"))
  }

  @Test func smallRAMIsOneRun() throws {
    _ = try bench.write("web.vmem", Self.ram)
    var state = Self.state
    state.regions = []
    state.regionsCountField = 0
    expectSuccess(
      try bench.tool.run("save", bench.write("web.vmss", state.bytes), "--name", "a")
    )
    #expect(try regions("a") == ["0+163840"])
    #expect(try bench.restore("a") == Self.ram)
  }

  /// A state whose list of groups is damaged looks as if it had no regions.
  @Test func anAssumedPlaceOfRAMIsNamed() throws {
    _ = try bench.write("web.vmem", Self.ram)
    var state = Self.state
    state.regions = []
    state.memoryByteCountField = 5
    let path = try bench.write("web.vmss", state.bytes)
    let byteCount = state.bytes.count - VMwareBuilder.memoryOffset
    let outcome = try bench.tool.run("save", path, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError == """
        vmckpt: warning: VMware state "\(path)": its group "memory" has 5 bytes by the list of groups, and \
        \(byteCount) by its tags; it may be damaged
        vmckpt: warning: VMware state "\(path)": it does not say where RAM is: RAM is taken for one run from \
        address 0

        """
    )
  }

  /// What is above the hole would be put into it.
  @Test func largeRAMWithoutRegionsIsRefused() throws {
    var state = Self.state
    state.regions = []
    let path = try bench.write("web.vmss", state.bytes)
    try makeHole(bench.directory.file("web.vmem"), byteCount: 3 << 30 + 4096)
    expectFailure(
      try bench.tool.run("save", path, "--name", "a"),
      65,
      "VMware state \"\(path)\" does not say where RAM is, which has 3221229568 bytes: more than 3 GiB are not "
        + "one run; give the state that was written with it; raw:PATH takes its regions from --region"
    )
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var make: @Sendable () -> [UInt8]

    init(
      _ name: String,
      _ message: String,
      _ change: @escaping @Sendable (inout VMwareBuilder) -> Void
    ) {
      testDescription = name
      self.message = message
      make = {
        var state = VMwareTests.state
        change(&state)
        return state.bytes
      }
    }

    static func cut(_ name: String, _ message: String, at byteCount: Int) -> Case {
      var result = Case(name, "is cut short \(message); \(VMwareTests.again)") { _ in }
      result.make = { Array(VMwareTests.state.bytes.prefix(byteCount)) }
      return result
    }
  }

  private static let again = "wait until it is written, or copy it again"
  private static let mismatch = "give the state and the RAM of the same moment"

  static let damages: [Case] = [
    .cut("cut in the header", "in its header", at: 11),
    .cut("cut in the groups", "in its groups", at: 12 + 159),
    .cut("cut before the tags", "in tag 0 of its group \"memory\"", at: VMwareBuilder.memoryOffset),
    .cut("cut in a name", "in tag 0 of its group \"memory\"", at: VMwareBuilder.memoryOffset + 5),
    .cut(
      "cut in an index",
      "in tag 0 of its group \"memory\"",
      at: VMwareBuilder.memoryOffset + 15
    ),
    .cut("cut in a block", "in tag 1 of its group \"memory\"", at: VMwareBuilder.memoryOffset + 60),
    .cut("cut before the end", "in tag 10 of its group \"memory\"", at: state.bytes.count - 2),
    Case("an old product", "is of a VMware product from before 64-bit states, and cannot be read") {
      $0.magic = [0xd0, 0xbe, 0xd0, 0xbe]
    },
    Case("groups of 32 bits", "is damaged: it has 4294967295 groups, which are too many") {
      $0.groupCountField = .max
    },
    Case("more groups than there are", "is cut short in its groups; \(again)") {
      $0.groupCountField = 4096
    },
    Case("no memory", "does not describe RAM: it has no group \"memory\"") {
      $0.memoryName = "memorx"
    },
    Case(
      "memory at the header",
      "is damaged: its group \"memory\" is at offset 0, which is in its list of groups"
    ) { $0.memoryOffsetField = 0 },
    Case(
      "memory at the list of groups",
      "is damaged: its group \"memory\" is at offset 171, which is in its list of groups"
    ) { $0.memoryOffsetField = 12 + 2 * 80 - 1 },
    Case("memory at the end of 64 bits", "is cut short in tag 0 of its group \"memory\"; \(again)")
    {
      $0.memoryOffsetField = .max
    },
    Case("a block of 64 bits", "is cut short in tag 0 of its group \"memory\"; \(again)") {
      $0.otherTags = VMwareBuilder.block("x", [], byteCount: .max)
    },
    Case("a block of 63 bits", "is cut short in tag 0 of its group \"memory\"; \(again)") {
      $0.otherTags = VMwareBuilder.block("x", [], padding: 65535, byteCount: 1 << 63)
    },
    Case(
      "compressed RAM",
      "has its RAM compressed, and cannot be read; suspend the VM without compression, or give a state with a "
        + ".vmem file"
    ) {
      $0.ram = ram
      $0.isRAMCompressed = true
    },
    Case("regions of 32 bits", "is damaged: it has 4294967295 regions of RAM, or says so twice") {
      $0.regionsCountField = .max
    },
    Case("a region too few", "is damaged: region 2 of RAM is not described in full") {
      $0.regionsCountField = 3
    },
    Case("an empty region", "is damaged: region 1 of RAM has 0 pages from page frame 0x100000 on") {
      $0.regions[1].pageCount = 0
    },
    Case(
      "a region behind RAM's end",
      "does not fit its RAM, which has 40 pages: region 1 ends at page 41; \(mismatch)"
    ) { $0.regions[1].pageCount = 17 },
    Case(
      "a region of 32 bits",
      "does not fit its RAM, which has 40 pages: region 1 ends at page 4294967319; \(mismatch)"
    ) { $0.regions[1].pageCount = .max },
    Case("regions that overlap", "is damaged: region 0 and region 1 both hold GPA 0x17000") {
      $0.regions[1].pfn = 23
    },
    Case("an end that never comes", "is cut short in tag 10 of its group \"memory\"; \(again)") {
      $0.hasEnd = false
    },
    Case("tags without end", "is damaged: its group \"memory\" has no end") {
      $0.otherTags = [UInt8](repeating: 0, count: 65536 * 4).indices.flatMap { index in
        index % 4 == 0 ? [4, 0, 0, 0, 0, 0] as [UInt8] : []
      }
    },
  ]

  @Test(arguments: damages)
  func aDamagedStateIsRefusedAndNothingIsStored(damage: Case) throws {
    _ = try bench.write("web.vmem", Self.ram)
    let path = try bench.write("web.vmss", damage.make())
    let before = bench.directory.entries
    expectFailure(
      try bench.tool.run("save", "vmware:\(path)"),
      65,
      "VMware state \"\(path)\" \(damage.message)"
    )
    #expect(bench.directory.entries == before)
  }

  @Test func ramWithoutItsStateIsRefused() throws {
    let path = try bench.write("web.vmem", Self.ram)
    let stem = path.dropLast(5)
    expectFailure(
      try bench.tool.run("save", "vmware:\(path)"),
      66,
      "VMware RAM \"\(path)\" has no state beside it: neither \"\(stem).vmss\" nor \"\(stem).vmsn\"; "
        + "put it there; raw:PATH is right for a guest with up to 3 GiB of RAM"
    )
    let state = try bench.write("other.vmss", Self.state.bytes)
    let outcome = try bench.tool.run("save", state)
    #expect(outcome.ending == .exit(66), "\(outcome)")
    #expect(outcome.standardError.contains("other.vmem"), "\(outcome)")
  }

  @Test func ramThatIsNotWholePagesIsRefused() throws {
    let path = try bench.write("web.vmem", Self.ram + [1])
    _ = try bench.write("web.vmss", Self.state.bytes)
    expectFailure(
      try bench.tool.run("save", "vmware:\(path)"),
      65,
      "VMware RAM \"\(path)\" has 163841 bytes, which is not a multiple of 4096"
    )
  }

  @Test func standardInputIsRefused() throws {
    let outcome = try bench.tool.run("save", "vmware:-")
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(outcome.standardError.contains("it is in two files"), "\(outcome)")
  }
}
