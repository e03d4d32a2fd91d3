import Foundation
import Glibc

/// Writes a snapshot of Cloud Hypervisor from its documented layout, without the library's help.
package struct CloudHypervisorBuilder {
  /// A range of memory-ranges, in the file's order.
  package struct Range {
    package var gpa: UInt64
    package var bytes: [UInt8]

    package init(_ gpa: UInt64, _ bytes: [UInt8]) {
      self.gpa = gpa
      self.bytes = bytes
    }
  }

  package var config =
    #"{"cpus": {"boot_vcpus": 2}, "memory": {"size": 134217728, "shared": false}}"# + "\n"
  package var ranges: [Range]
  /// Each vCPU's MSRs.
  package var processors: [[(index: UInt32, data: UInt64)]] = []
  /// More RAM than the ranges have.
  package var mappings: [(gpa: UInt64, size: UInt64)] = []
  /// Instead of the ranges as they are.
  package var rangesJSON: String?
  /// Instead of the tree that there is.
  package var stateJSON: String?

  package init(_ ranges: [Range]) { self.ranges = ranges }

  package var memory: [UInt8] { ranges.flatMap(\.bytes) }

  /// state.json, which nests JSON in strings.
  package var state: String {
    if let stateJSON { return stateJSON }
    let list = ranges.map { #"{"gpa":\#($0.gpa),"length":\#($0.bytes.count)}"# }
    let data = rangesJSON ?? "[\(list.joined(separator: ","))]"
    let all = ranges.map { ($0.gpa, UInt64($0.bytes.count)) } + mappings.map { ($0.gpa, $0.size) }
    let mapped = all.enumerated().map {
      #"{"slot":\#($0.offset),"gpa":\#($0.element.0),"size":\#($0.element.1),"zone_id":"mem0","#
        + #""virtio_mem":false,"file_offset":0}"#
    }
    let manager =
      #"{"memory_ranges":{"data":\#(data)},"guest_ram_mappings":[\#(mapped.joined(separator: ","))],"#
      + #""start_of_device_area":17592186044416,"boot_ram":134217728}"#
    let vcpus = processors.enumerated().map { number, registers in
      let msrs = registers.map { #"{"index":\#($0.index),"data":\#($0.data)}"# }
      let state =
        #"{"Kvm":{"cpuid":[{"function":0,"ebx":1,"flags":0}],"msrs":[\#(msrs.joined(separator: ","))],"#
        + #""regs":{"rax":0.5},"tsc_khz":2400000,"hyperv_synic":true}}"#
      return #""\#(number)":\#(Self.node(state))"#
    }
    return #"{"snapshots":{"cpu-manager":{"snapshots":{\#(vcpus.joined(separator: ","))},"#
      + #""snapshot_data":null},"device-manager":{"snapshots":{},"snapshot_data":null},"#
      + #""memory-manager":\#(Self.node(manager))},"snapshot_data":\#(Self.text("{}"))}"#
  }

  /// A node of the tree with its state as a string.
  package static func node(_ state: String) -> String {
    #"{"snapshots":{},"snapshot_data":\#(text(state))}"#
  }

  private static func text(_ state: String) -> String {
    let escaped = state.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
    return #"{"state":"\#(escaped)"}"#
  }

  /// Makes the directory and returns its path.
  package func write(_ path: String) throws -> String {
    guard mkdir(path, 0o700) == 0 else { throw TestSetupError("cannot make \(path)") }
    try writeFile("\(path)/config.json", config)
    try writeFile("\(path)/state.json", state)
    try writeSparseFile("\(path)/memory-ranges", memory)
    return path
  }
}
