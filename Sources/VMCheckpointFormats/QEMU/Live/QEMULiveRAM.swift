import Foundation
import VMCheckpoint

/// What makes up a running VM's RAM: its blocks, where they lie, and where they can be read in place.
///
/// QEMU's objects show this:
///
/// - the machine's one memory backend, or those of its NUMA nodes, which follow each other in a
///   region of the machine's;
/// - the regions below and above 4 GiB that show them to the guest (also with `max-ram-below-4g`);
/// - plugged DIMMs.
///
/// `info mtree -f`, which shows what the guest sees, must agree. (QEMU `hw/core/machine.c`,
/// `hw/i386/pc.c`; seen with 7.2.)
struct QEMULiveRAM {
  /// The blocks, in the order in which they make up flat RAM; `nil` when unknown.
  private(set) var blocks: [(name: String, byteCount: UInt64)]?
  /// Where RAM lies; `nil` when unknown, or when what is known does not agree.
  private(set) var layout: RAMLayout?
  /// A file for each block, where RAM can be read in place; `nil` where it cannot. They are open: RAM is
  /// there also should QEMU end meanwhile.
  private var files: [QEMURAMFile]?
  /// The files' paths, as long as this value lives.
  var paths: [String]? { files?.map(\.path) }
  /// Whether QEMU shares memory with others, which may write to it.
  private(set) var hasSharedBackend = false
  /// DIMMs that were plugged in while the VM ran, so that its command line lacks them.
  private(set) var pluggedNames: [String] = []

  /// What a user should know.
  var warnings: [String] {
    var warnings = pluggedNames.map {
      "\(quotedName($0)) was plugged in while the VM ran: its -device pc-dimm is not in the command "
        + "line that is recorded"
    }
    if layout == nil {
      warnings.append("where RAM lies cannot be read from QEMU: the machine's type decides it")
    }
    return warnings
  }

  private struct Block {
    var name: String
    var backend: String
    var byteCount: UInt64
  }

  /// The object that contains the backends of NUMA nodes.
  private static let nodesRegion = "/machine/\(QEMURAMBlock.defaultRAMName)[0]"

  /// - Parameter mayReadMemfd: Whether QEMU leaves a memfd out of a migration that ignores shared RAM.
  /// - Throws: ``VMCheckpointError``: `unavailable` when there are blocks that cannot be told apart.
  init(
    _ client: QMPClient,
    process: QEMUProcess?,
    mayReadMemfd: Bool
  ) throws(VMCheckpointError) {
    let objects = Objects(client: client)
    let backends = objects.list("query-memdev")
    hasSharedBackend = backends.contains { $0["share"] as? Bool == true }
    guard var blocks = Self.mainBlocks(objects, backends) else {
      guard backends.count < 2 else {
        throw VMCheckpointError(
          .unavailable,
          "which of the VM's \(backends.count) memory backends are its RAM cannot be read from QEMU",
          hint: "give the machine one memory backend, or one for each NUMA node"
        )
      }
      return
    }
    // Checked for overflow wherever a block is added: the sizes come from QEMU, or from another program
    // that answers in its place.
    var ramByteCount = blocks.reduce(0) { $0 + $1.byteCount }
    var regions = Self.mainRegions(objects, byteCount: ramByteCount)
    let memoryDevices = objects.list("query-memory-devices")
    guard !memoryDevices.contains(where: { $0["type"] as? String == "virtio-mem" }) else {
      throw VMCheckpointError(
        .unavailable,
        "the VM has virtio-mem, which is not supported",
        hint: "give it DIMMs instead: their memory is kept as RAM"
      )
    }
    for device in memoryDevices where device["type"] as? String == "dimm" {
      guard regions != nil, let data = device["data"] as? [String: Any],
        let backend = data["memdev"] as? String, let block = Self.block(objects, backend),
        !ramByteCount.addingReportingOverflow(block.byteCount).overflow,
        let gpa = (data["addr"] as? NSNumber)?.uint64Value
      else {
        throw VMCheckpointError(
          .unavailable,
          "where the VM's plugged memory lies cannot be read from QEMU",
          hint: "unplug it, or use a version of QEMU that shows it"
        )
      }
      let name = data["id"] as? String ?? block.name
      regions?.append(
        MemoryRegion(
          gpa: gpa,
          byteCount: block.byteCount,
          fileOffset: ramByteCount,
          name: name
        )
      )
      blocks.append(block)
      ramByteCount += block.byteCount
      if data["hotplugged"] as? Bool == true { pluggedNames.append(name) }
    }
    self.blocks = blocks.map { ($0.name, $0.byteCount) }
    guard let regions, let layout = try? RAMLayout(regions: regions),
      let tree = objects.monitor("info mtree -f"),
      QEMUMemoryTree(tree).agrees(with: layout, blocks: blocks.map { ($0.name, $0.byteCount) })
    else { return }
    self.layout = layout
    // Whatever else is shared would be left out as well.
    let shared = backends.filter { $0["share"] as? Bool == true }.compactMap { $0["id"] as? String }
    guard let process, Set(shared) == Set(blocks.map { Self.id($0.backend) }) else { return }
    var types: Set<String?> = ["memory-backend-file"]
    if mayReadMemfd { types.insert("memory-backend-memfd") }
    var blockStart: UInt64 = 0
    let found = blocks.compactMap { block -> QEMURAMFile? in
      defer { blockStart += block.byteCount }
      guard types.contains(objects.property(block.backend, "type")),
        let region = layout.regions.first(where: {
          $0.fileOffset <= blockStart && blockStart < $0.endFileOffset
        }),
        let address = objects.hostAddress(
          ofGPA: region.gpa + (blockStart - region.fileOffset),
          inBlock: block.name
        )
      else { return nil }
      return process.file(mappedAt: address, byteCount: block.byteCount)
    }
    if found.count == blocks.count { files = found }
  }

  private static func id(_ backend: String) -> String {
    backend.split(separator: "/").last.map(String.init) ?? backend
  }

  private static func block(_ objects: Objects, _ backend: String) -> Block? {
    guard let byteCount = objects.number(backend, "size"), byteCount > 0 else { return nil }
    // Machine types up to 4.0 have the whole path for the block's name.
    let hasPath: Bool? = objects.property(backend, "x-use-canonical-path-for-ramblock-id")
    return Block(
      name: hasPath == true ? backend : id(backend),
      backend: backend,
      byteCount: byteCount
    )
  }

  /// The machine's one backend, or those of its NUMA nodes in the order of their addresses.
  private static func mainBlocks(_ objects: Objects, _ backends: [[String: Any]]) -> [Block]? {
    if let backend: String = objects.property("/machine", "memory-backend"), !backend.isEmpty {
      return block(objects, backend).map { [$0] }
    }
    var nodes: [(offset: UInt64, block: Block)] = []
    for id in backends.compactMap({ $0["id"] as? String }) {
      let backend = "/objects/\(id)"
      guard let region = objects.memoryRegion(of: backend),
        objects.property(region, "container") == nodesRegion
      else { continue }
      guard let offset = objects.number(region, "addr"), let block = block(objects, backend) else {
        return nil
      }
      nodes.append((offset, block))
    }
    nodes.sort { $0.offset < $1.offset }
    var end: UInt64 = 0
    for node in nodes {
      guard node.offset == end, !end.addingReportingOverflow(node.block.byteCount).overflow else {
        return nil
      }
      end += node.block.byteCount
    }
    return nodes.isEmpty ? nil : nodes.map(\.block)
  }

  /// The regions below and above 4 GiB, if they hold `byteCount` bytes.
  private static func mainRegions(_ objects: Objects, byteCount: UInt64) -> [MemoryRegion]? {
    var regions: [MemoryRegion] = []
    var end: UInt64 = 0
    for name in ["ram-below-4g", "ram-above-4g"] {
      let region = "/machine/unattached/\(name)[0]"
      guard let gpa = objects.number(region, "addr"), let size = objects.number(region, "size"),
        size > 0, size <= byteCount - end
      else { continue }
      regions.append(MemoryRegion(gpa: gpa, byteCount: size, fileOffset: end, name: name))
      end += size
    }
    guard end == byteCount else { return nil }
    // As in RAM that is not split.
    if regions.count == 1 { regions[0].name = "ram" }
    return regions
  }
}

/// QEMU's objects, by the monitor. A property that it does not report is `nil`.
private struct Objects {
  let client: QMPClient

  func property<Value>(_ path: String, _ name: String) -> Value? {
    (try? client.run("qom-get", ["path": path, "property": name])) as? Value
  }

  func number(_ path: String, _ name: String) -> UInt64? {
    (property(path, name) as NSNumber?)?.uint64Value
  }

  func list(_ command: String) -> [[String: Any]] {
    (try? client.run(command)) as? [[String: Any]] ?? []
  }

  /// The path of a backend's memory region.
  func memoryRegion(of backend: String) -> String? {
    let members = (try? client.run("qom-list", ["path": backend])) as? [[String: Any]] ?? []
    let regions = members.filter { $0["type"] as? String == "child<memory-region>" }
    guard regions.count == 1, let name = regions[0]["name"] as? String else { return nil }
    return "\(backend)/\(name)"
  }

  /// What the monitor for people answers.
  func monitor(_ line: String) -> String? {
    (try? client.run("human-monitor-command", ["command-line": line])) as? String
  }

  /// Where QEMU has a byte of RAM mapped.
  func hostAddress(ofGPA gpa: UInt64, inBlock name: String) -> UInt64? {
    let prefix = "Host virtual address for \(hexString(gpa)) (\(name)) is 0x"
    guard let answer = monitor("gpa2hva \(hexString(gpa))"), answer.hasPrefix(prefix) else {
      return nil
    }
    return UInt64(answer.dropFirst(prefix.count).prefix { $0.isHexDigit }, radix: 16)
  }
}
