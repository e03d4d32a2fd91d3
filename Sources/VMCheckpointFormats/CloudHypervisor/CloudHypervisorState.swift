import VMCheckpoint

/// What of Cloud Hypervisor's state.json must be understood: where RAM is, and the virtual processors' MSRs.
///
///     {"snapshots": {"memory-manager": NODE, "cpu-manager": {"snapshots": {"0": NODE, …}}, …}, …}
///
/// A NODE has its state as JSON in a string: `{"snapshot_data": {"state": "…"}}`. Versions before 39 have an
/// array of bytes there.
///
/// Sources: cloud-hypervisor `vm-migration/src/{lib,protocol}.rs`, `vmm/src/{memory_manager,cpu}.rs` and
/// `hypervisor/src/kvm/x86_64/mod.rs` at ae44c297.
struct CloudHypervisorState {
  /// Part of the guest's RAM.
  struct Range: Hashable {
    var gpa: UInt64
    var byteCount: UInt64

    var endGPA: UInt64 { gpa + byteCount }
  }

  /// Values in the whole document, or in the state of one node.
  private static let maximumValueCount = 1 << 20

  /// What the file `memory-ranges` has, one after the other.
  let ranges: [Range]
  /// All RAM of the guest, which may be more: a zone with a file of its own is not in `memory-ranges`.
  let mappings: [Range]
  /// Each virtual processor's MSRs, in the order of their numbers.
  private(set) var processors: [HyperVMSRs.Registers] = []
  /// What could not be read.
  private(set) var warnings: [String] = []

  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(_ json: [UInt8]) throws(VMCheckpointError) {
    let root = try Self.object(json, at: JSONPath())
    let managers = try Self.child(root, "snapshots")
    let memory = try Self.state(Self.child(managers, "memory-manager"))
    let table = try Self.child(memory, "memory_ranges")
    ranges = try Self.ranges(table, "data", length: "length")
    mappings =
      memory.contains("guest_ram_mappings")
      ? try Self.ranges(memory, "guest_ram_mappings", length: "size") : []
    guard managers.contains("cpu-manager") else { return }
    let nodes = try Self.child(Self.child(managers, "cpu-manager"), "snapshots")
    var found: [UInt32: HyperVMSRs.Registers] = [:]
    for key in nodes.allKeys {
      guard let number = UInt32(key), String(number) == key else {
        throw nodes.invalid(key, "expected a virtual processor's number")
      }
      found[number] = try processor(Self.state(Self.child(nodes, key)))
    }
    processors = found.sorted { $0.key < $1.key }.map(\.value)
  }

  /// The MSRs in a virtual processor's state; none on machines that have no MSRs.
  private mutating func processor(
    _ state: StrictJSONObject
  ) throws(VMCheckpointError) -> HyperVMSRs.Registers {
    guard state.contains("Kvm") else {
      if warnings.isEmpty {
        warnings.append("its virtual processors are not KVM's: Hyper-V overlays are not looked for")
      }
      return [:]
    }
    let kvm = try Self.child(state, "Kvm")
    guard kvm.contains("msrs") else { return [:] }
    var registers: HyperVMSRs.Registers = [:]
    for entry in try Self.objects(kvm, "msrs") {
      let index = try entry.uint32("index")
      // Of the same register twice, the last one is set last.
      registers[index] = try entry.uint64("data")
    }
    return registers
  }

  private static func ranges(
    _ object: StrictJSONObject,
    _ key: String,
    length lengthKey: String
  ) throws(VMCheckpointError) -> [Range] {
    var ranges: [Range] = []
    for entry in try objects(object, key) {
      let gpa = try entry.uint64("gpa")
      let byteCount = try entry.uint64(lengthKey)
      for (name, value) in [("gpa", gpa), (lengthKey, byteCount)]
      where value % UInt64(Page.byteCount) != 0 {
        throw entry.invalid(name, "\(hexString(value)) is not a multiple of 4096")
      }
      guard byteCount > 0 else { throw entry.invalid(lengthKey, "the range is empty") }
      let (end, overflows) = gpa.addingReportingOverflow(byteCount)
      guard !overflows, end <= RAMLayout.gpaLimit else {
        throw entry.invalid(lengthKey, "the range ends beyond 52-bit physical addresses")
      }
      ranges.append(Range(gpa: gpa, byteCount: byteCount))
    }
    return ranges
  }

  // MARK: JSON

  private static func object(
    _ json: [UInt8],
    at path: JSONPath
  ) throws(VMCheckpointError) -> StrictJSONObject {
    let value: StrictJSONValue
    do throws(VMCheckpointError) {
      value = try StrictJSONReader.read(
        json,
        maximumValueCount: maximumValueCount,
        maximumStringByteCount: max(1, json.count)
      )
    } catch {
      throw path.components.isEmpty ? error : path.invalid("\(error.message)", hint: error.hint)
    }
    return try StrictJSONObject(value, at: path)
  }

  private static func child(
    _ object: StrictJSONObject,
    _ key: String
  ) throws(VMCheckpointError) -> StrictJSONObject {
    try StrictJSONObject(object.value(key), at: object.path.appending(.key(key)))
  }

  private static func objects(
    _ object: StrictJSONObject,
    _ key: String
  ) throws(VMCheckpointError) -> [StrictJSONObject] {
    let value = try object.value(key)
    guard case .array(let elements) = value else {
      throw object.invalid(key, "expected an array, found \(value.typeDescription)")
    }
    var objects: [StrictJSONObject] = []
    for (index, element) in elements.enumerated() {
      let path = object.path.appending(.key(key)).appending(.index(index))
      objects.append(try StrictJSONObject(element, at: path))
    }
    return objects
  }

  /// The state of a node, which is JSON in a string.
  private static func state(
    _ node: StrictJSONObject
  ) throws(VMCheckpointError) -> StrictJSONObject {
    let data = try child(node, "snapshot_data")
    let value = try data.value("state")
    guard case .string(let text) = value else {
      throw data.invalid(
        "state",
        "expected a string, found \(value.typeDescription)",
        hint: "versions of Cloud Hypervisor before 39 cannot be read"
      )
    }
    return try object(Array(text.utf8), at: data.path.appending(.key("state")))
  }
}
