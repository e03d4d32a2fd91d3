import Glibc
import Testing
import VMCheckpointTestSupport

/// A snapshot of Cloud Hypervisor that is damaged or hostile is refused in one line that says what and where, and
/// leaves no store behind.
@Suite struct CloudHypervisorDamageTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var file: String
    var message: String
    var change: @Sendable (inout CloudHypervisorBuilder) -> Void

    init(
      _ name: String,
      _ message: String,
      file: String = "state.json",
      _ change: @escaping @Sendable (inout CloudHypervisorBuilder) -> Void
    ) {
      testDescription = name
      self.file = file
      self.message = message
      self.change = change
    }

    /// Other ranges.
    static func ranges(_ name: String, _ message: String, _ json: String) -> Case {
      Case(name, message) { $0.rangesJSON = json }
    }
  }

  private static let state = #"snapshots."memory-manager".snapshot_data.state"#
  private static let data = state + ".memory_ranges.data"
  private static let hint = "--overlays none saves it without looking for overlays"
  private static let registers = "has Hyper-V registers that make no sense: "

  static var sample: CloudHypervisorBuilder {
    var ram = sampleRAM(64)
    HyperVPages.put(into: &ram)
    var sample = CloudHypervisorBuilder([
      .init(0x100000, sampleRAM(4, seed: 2)), .init(0, ram),
    ])
    sample.processors = [HyperVPages.registers(vp: 0), HyperVPages.registers(vp: 1)]
    return sample
  }

  static let cases: [Case] = [
    Case("an empty state", "expected a value (line 1, column 1)") { $0.stateJSON = "" },
    Case("a state without a tree", "snapshots: missing") { $0.stateJSON = "{}" },
    Case("a list", "expected an object, found an array") { $0.stateJSON = "[]" },
    Case("no memory manager", #"snapshots."memory-manager": missing"#) {
      $0.stateJSON = #"{"snapshots":{}}"#
    },
    Case("no data", #"snapshots."memory-manager".snapshot_data: expected an object, found null"#) {
      $0.stateJSON = #"{"snapshots":{"memory-manager":{"snapshot_data":null}}}"#
    },
    Case(
      "the bytes of a version before 39",
      state
        + ": expected a string, found an array; versions of Cloud Hypervisor before 39 cannot be read"
    ) {
      $0.stateJSON = #"{"snapshots":{"memory-manager":{"snapshot_data":{"state":[123,125]}}}}"#
    },
    Case("a state that is not JSON", state + ": expected a value (line 1, column 1)") {
      $0.stateJSON = #"{"snapshots":{"memory-manager":{"snapshot_data":{"state":"x"}}}}"#
    },
    Case("a key twice", "snapshots: given twice (line 1, column 29)") {
      $0.stateJSON = #"{"snapshots":{}, "snapshots":{}}"#
    },
    Case(
      "a configuration that is not JSON",
      "expected a value (line 1, column 1)",
      file: "config.json"
    ) {
      $0.config = "x"
    },
    .ranges(
      "no ranges",
      "describes no RAM: memory_ranges is empty; RAM that has a file of its own is not in the snapshot: save that file",
      "[]"
    ),
    .ranges("ranges that are a number", data + ": expected an array, found a number", "7"),
    .ranges("a range without an address", data + "[0].gpa: missing", #"[{"length":4096}]"#),
    .ranges(
      "an unaligned address",
      data + "[0].gpa: 0x200 is not a multiple of 4096",
      #"[{"gpa":512,"length":4096}]"#
    ),
    .ranges(
      "an unaligned length",
      data + "[1].length: 0x1001 is not a multiple of 4096",
      #"[{"gpa":0,"length":4096},{"gpa":8192,"length":4097}]"#
    ),
    .ranges("an empty range", data + "[0].length: the range is empty", #"[{"gpa":0,"length":0}]"#),
    .ranges(
      "a length at the end of 64 bits",
      data + "[0].length: the range ends beyond 52-bit physical addresses",
      #"[{"gpa":4096,"length":18446744073709547520}]"#
    ),
    .ranges(
      "an address at the end of 64 bits",
      data + "[0].length: the range ends beyond 52-bit physical addresses",
      #"[{"gpa":18446744073709547520,"length":8192}]"#
    ),
    .ranges(
      "an address beyond 64 bits",
      data
        + #"[0].gpa: expected an integer or a string "0x…", found a number that is not a 64-bit integer"#,
      #"[{"gpa":18446744073709551616,"length":8192}]"#
    ),
    .ranges(
      "ranges that overlap",
      "has memory ranges that overlap at GPA 0x3000",
      #"[{"gpa":12288,"length":8192},{"gpa":0,"length":16384}]"#
    ),
    .ranges(
      "the same range twice",
      "has memory ranges that overlap at GPA 0x0",
      #"[{"gpa":0,"length":8192},{"gpa":0,"length":8192}]"#
    ),
    .ranges(
      "more RAM than there are addresses",
      "has memory ranges that overlap at GPA 0x0",
      #"[{"gpa":0,"length":2251799813685248},{"gpa":0,"length":2251799813685248}]"#
    ),
    .ranges(
      "more RAM than there are addresses in all",
      "describes more RAM than 52-bit physical addresses have",
      #"[{"gpa":0,"length":4503599627370496},{"gpa":0,"length":4503599627370496}]"#
    ),
    .ranges(
      "more ranges than can be stored",
      "is damaged: 1025 memory regions are more than the 1024 allowed",
      "[\((0..<1025).map { #"{"gpa":\#($0 * 8192),"length":4096}"# }.joined(separator: ","))]"
    ),
    Case(
      "a memory file that is cut",
      "has 278528 bytes, and state.json describes 282624",
      file: "memory-ranges"
    ) {
      $0.rangesJSON = #"[{"gpa":0,"length":262144},{"gpa":1048576,"length":20480}]"#
    },
    Case(
      "a memory file that is too long",
      "has 278528 bytes, and state.json describes 4096",
      file: "memory-ranges"
    ) {
      $0.rangesJSON = #"[{"gpa":0,"length":4096}]"#
    },
    Case(
      "a vCPU without a number",
      #"snapshots."cpu-manager".snapshots.x: expected a virtual processor's number"#
    ) {
      $0.stateJSON = $0.state.replacing(#"{"snapshots":{"0""#, with: #"{"snapshots":{"x""#)
    },
    Case(
      "a hypercall page of no guest",
      registers + "the hypercall page is enabled while the guest OS ID is 0; " + hint
    ) {
      for index in 0...1 { $0.processors[index][1].data = 0 }
    },
    Case(
      "a hypercall page outside RAM",
      registers
        + "MSR 0x40000001 places the hypercall page at PFN 0xfffffffffffff, which is outside the "
        + "guest's RAM; " + hint
    ) {
      for index in 0...1 { $0.processors[index][2].data = .max }
    },
    Case(
      "vCPUs that disagree",
      registers + "virtual processors have different values of MSR 0x40000021; " + hint
    ) {
      $0.processors[1][5].data = 0
    },
    Case("two vCPUs of one index", registers + "two virtual processors have the index 0; " + hint) {
      $0.processors[1][3].data = 0
    },
    Case(
      "a vCPU beyond 32 bits",
      registers + "two virtual processors have the index 4294967296; " + hint
    ) {
      $0.processors[1][3].data = 1 << 32
    },
  ]

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test(arguments: cases)
  func aDamagedSnapshotIsRefusedAndNothingIsStored(damage: Case) throws {
    var sample = Self.sample
    damage.change(&sample)
    let path = try sample.write(bench.directory.file("web"))
    let before = bench.directory.entries
    let name = "Cloud Hypervisor file \"\(path)/\(damage.file)\""
    expectFailure(
      try bench.tool.run("save", "cloud-hypervisor:\(path)"),
      65,
      "\(name) \(damage.message)"
    )
    #expect(bench.directory.entries == before)
  }

  @Test(arguments: ["config.json", "state.json", "memory-ranges"])
  func aFileThatIsMissingIsNamed(file: String) throws {
    let path = try Self.sample.write(bench.directory.file("web"))
    unlink("\(path)/\(file)")
    let outcome = try bench.tool.run("save", "cloud-hypervisor:\(path)")
    #expect(outcome.ending == .exit(66), "\(outcome)")
    #expect(outcome.standardError.contains("\(path)/\(file)"))
    #expect(bench.directory.entries == ["web"])
  }

  /// Wherever state.json ends, the command ends in order.
  @Test func theStateMayBeCutAnywhere() throws {
    let path = try Self.sample.write(bench.directory.file("web"))
    let state = Array(Self.sample.state.utf8)
    for end in stride(from: 0, to: state.count, by: max(1, state.count / 40)) {
      try writeFile("\(path)/state.json", Array(state[..<end]))
      let outcome = try bench.tool.run("save", "cloud-hypervisor:\(path)")
      #expect(outcome.ending == .exit(65), "byte \(end): \(outcome)")
      #expect(outcome.standardError.split(separator: "\n").count == 1)
    }
    #expect(bench.directory.entries == ["web"])
  }
}
