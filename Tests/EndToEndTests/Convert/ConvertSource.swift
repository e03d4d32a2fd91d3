import Foundation
import Testing
import VMCheckpointTestSupport

/// A guest in each form that is read, as arguments that `save` and `convert` both take.
enum ConvertSource: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case raw, rawPipe, rawRegions, rawRegionsOutOfOrder, rawOverlays, rawPipeOverlays
  case elf, elfPipe, elfNotes, lime, limePipe, avml, avmlPipe, avmlOverlays
  case kdump, kdumpFlattenedPipe, kdumpOverlays, vmware, propolis
  case qemuStream, qemuStreamPipe, qemuLinux, qemuHyperV, mappedRAM
  case libvirtSave, libvirtSavePipe, cloudHypervisor, firecracker, firecrackerDiffs

  var testDescription: String { rawValue }

  /// The arguments, and what standard input is.
  struct Arguments {
    var words: [String]
    var input: ChildProcess.Input = .null

    init(_ words: String..., pipe: String? = nil) {
      self.words = words
      if let pipe { input = .file(pipe) }
    }
  }

  /// Every target format.
  static let formats = [
    "raw", "elf", "lime", "propolis", "qemu-stream", "qemu", "libvirt-save", "cloud-hypervisor",
    "firecracker",
  ]

  /// The formats that this guest can take; all others are refused.
  var writableFormats: Set<String> {
    let own: Set<String> =
      switch self {
      case .propolis: ["propolis"]
      case .qemuStream, .qemuStreamPipe, .qemuLinux, .qemuHyperV, .mappedRAM:
        ["qemu-stream", "qemu"]
      case .libvirtSave, .libvirtSavePipe: ["qemu-stream", "qemu", "libvirt-save"]
      case .cloudHypervisor: ["cloud-hypervisor"]
      case .firecracker, .firecrackerDiffs: ["firecracker"]
      default: []
      }
    return own.union(["raw", "elf", "lime"])
  }

  /// Makes the guest.
  func make(in bench: Workbench) throws -> Arguments {
    switch self {
    case .raw, .rawPipe, .rawRegions, .rawRegionsOutOfOrder, .rawOverlays, .rawPipeOverlays:
      return try makeFlat(in: bench)
    case .elf, .elfPipe, .elfNotes, .lime, .limePipe, .avml, .avmlPipe, .avmlOverlays, .kdump,
      .kdumpFlattenedPipe, .kdumpOverlays, .vmware:
      return try makeDump(in: bench)
    default: return try makeSnapshot(in: bench)
    }
  }

  /// RAM of which every kind of page is part, and VMCOREINFO.
  static func ram() throws -> [UInt8] {
    sampleRAM(600) + (try ELFFixtures.linuxVMCoreInfoPage()) + sampleRAM(167, seed: 2)
      + [UInt8](repeating: 0, count: 256 << 12)
  }

  /// An overlays.json: one overlay over bare RAM in a hole, a baked one, one whose underlay is given, and one that is
  /// pending.
  static func overlays(pfns: [Int], in bench: Workbench) throws -> String {
    let page = Data(incompressibleRAM(1, seed: 77)).base64EncodedString()
    return try bench.write(
      "overlays.json",
      #"{"format": 1, "guest_os_id": "0x81", "overlays": ["#
        + #"{"kind": "hypercall", "pfn": \#(pfns[0]), "variant": "vmcall"},"#
        + #"{"kind": "reference-tsc", "pfn": \#(pfns[0]), "tsc_frequency_hz": 2400000000},"#
        + #"{"kind": "synic-message", "vp": 0, "pfn": \#(pfns[1]), "contents": "\#(page)","#
        + #" "underlay": "unknown"},"#
        + #"{"kind": "hypercall", "pfn": \#(pfns[2]), "variant": "vmmcall", "underlay": "\#(page)"},"#
        + #"{"kind": "hypercall", "pfn": \#(pfns[3]), "variant": "vmmcall", "underlay": "zero"}]}"#
    )
  }

  private func makeFlat(in bench: Workbench) throws -> Arguments {
    let path = try bench.write("guest.ram", Self.ram())
    switch self {
    case .raw: return Arguments(path)
    case .rawPipe: return Arguments("-", pipe: path)
    case .rawRegions:
      return Arguments(
        path,
        "--region",
        "gpa=0,size=1M",
        "--region",
        "gpa=4G,size=3M,name=high"
      )
    case .rawRegionsOutOfOrder:
      return Arguments(
        path,
        "--region",
        "gpa=0,size=1M,offset=3M",
        "--region",
        "gpa=1M,size=3M,offset=0,name=high"
      )
    default:
      let overlays = try Self.overlays(pfns: [900, 3, 950, 5], in: bench)
      return self == .rawOverlays
        ? Arguments(path, "--overlays", overlays)
        : Arguments("-", "--overlays", overlays, pipe: path)
    }
  }

  private func makeDump(in bench: Workbench) throws -> Arguments {
    let ram = try Self.ram()
    switch self {
    case .elf, .elfPipe, .elfNotes:
      var elf = ELFBuilder()
      if self == .elfNotes {
        elf.notes(ELFBuilder.note("CORE", 1, [UInt8](repeating: 3, count: 336)))
      }
      elf.load(0, Array(ram[..<(600 << 12)]))
      elf.load(4 << 30, Array(ram[(600 << 12)...]), memoryByteCount: 5 << 20)
      let path = try bench.write("guest.elf", elf.bytes)
      return self == .elfPipe ? Arguments("elf:-", pipe: path) : Arguments(path)
    case .lime, .limePipe:
      var capture = RangeCaptureBuilder()
      capture.plain(0x1000, Array(ram[..<0x9fc00]))
      capture.plain(0x10_0000, Array(ram[0x10_0000...]))
      let path = try bench.write("guest.lime", capture.bytes)
      return self == .limePipe ? Arguments("lime:-", pipe: path) : Arguments("lime:\(path)")
    case .avml, .avmlPipe, .avmlOverlays:
      var capture = RangeCaptureBuilder()
      capture.compressed(0x1000, Array(ram[..<0x9f000]))
      capture.compressed(0x10_0000, Array(ram[0x10_0000..<0x30_0000]))
      capture.compressed(0x80_0000, sampleRAM(2, seed: 5))
      capture.compressed(0x1_0000_0000, sampleRAM(20, seed: 3))
      let path = try bench.write("guest.avml", capture.bytes)
      if self == .avmlPipe { return Arguments("avml:-", pipe: path) }
      guard self == .avmlOverlays else { return Arguments(path) }
      // Two of them in blocks that were left out.
      return Arguments(
        path,
        "--overlays",
        try Self.overlays(pfns: [0x500, 0x10, 0x600, 0x12], in: bench)
      )
    case .vmware:
      var state = VMwareBuilder()
      state.regions = [
        .init(pfn: 0, pageIndex: 0, pageCount: 500),
        .init(pfn: 1 << 20, pageIndex: 500, pageCount: 524),
      ]
      _ = try bench.write("web.vmem", ram)
      return Arguments(try bench.write("web.vmss", state.bytes))
    default:
      var dump = KdumpBuilder()
      dump.pfnCount = 1000
      dump.excluded = Set(200..<1000)
      for pfn in 0..<UInt64(200) where pfn % 7 != 3 {
        dump.page(pfn, Array(ram[(Int(pfn) << 12)..<((Int(pfn) + 1) << 12)]))
      }
      guard self != .kdumpFlattenedPipe else {
        let path = try bench.write("guest.flat", KdumpBuilder.flattened(dump.bytes))
        return Arguments("kdump:-", pipe: path)
      }
      let path = try bench.write("guest.kdump", dump.bytes)
      guard self == .kdumpOverlays else { return Arguments(path) }
      let overlays = try Self.overlays(pfns: [700, 5, 900, 901], in: bench)
      return Arguments(path, "--overlays", overlays)
    }
  }

  private func makeSnapshot(in bench: Workbench) throws -> Arguments {
    let ram = try Self.ram()
    switch self {
    case .propolis:
      var sample = PropolisSample(mebibytes: 2)
      sample.addHyperV(
        #"{"msr_guest_os_id":9295436232257437696,"msr_hypercall":16387,"#
          + #""reference_tsc":{"msr_value":20481,"guest_freq":2400000000}}"#
      )
      return Arguments(try bench.write("web.tar", sample.archive().bytes))
    case .qemuHyperV:
      return Arguments(try bench.write("hyperv.stream", QEMUOverlayTests.guest().stream()))
    case .qemuLinux:
      return Arguments(try bench.write("linux.stream", ELFFixtures.linuxStream()))
    case .qemuStream, .qemuStreamPipe, .mappedRAM:
      let path = try bench.write("stream", Self.stream(ram, isMapped: self == .mappedRAM))
      return self == .qemuStreamPipe ? Arguments("qemu-stream:-", pipe: path) : Arguments(path)
    case .libvirtSave, .libvirtSavePipe:
      var image = LibvirtImageBuilder()
      if self == .libvirtSavePipe { image.format = 5 }
      let path = try bench.write(
        "guest.save",
        image.image(
          stream: try LibvirtImageBuilder.compress(Self.stream(ram), format: image.format)
        )
      )
      return self == .libvirtSavePipe ? Arguments("libvirt-save:-", pipe: path) : Arguments(path)
    case .cloudHypervisor:
      var low = sampleRAM(160)
      HyperVPages.put(into: &low)
      // Ranges in no order, and two that touch.
      var sample = CloudHypervisorBuilder([
        .init(4 << 30, sampleRAM(64, seed: 3)),
        .init(0x100000, Array(ram[(500 << 12)..<(700 << 12)])),
        .init(0, low), .init(0x100000 + 200 << 12, sampleRAM(16, seed: 4)),
      ])
      sample.processors = [HyperVPages.registers(vp: 0), HyperVPages.registers(vp: 1)]
      return Arguments(try sample.write(bench.directory.file("ch")))
    default:
      let directory = try bench.directory.subdirectory("fc")
      var low = incompressibleRAM(256)
      HyperVPages.put(into: &low)
      var state = FirecrackerBuilder(8, [.init(0, 1 << 20), .init(4 << 30, 1 << 20)])
      state.processors = (0..<2).map { HyperVPages.registers(vp: $0) }
      try writeFile("\(directory)/mem_file", low + incompressibleRAM(256, seed: 2))
      try writeFile("\(directory)/snapshot_file", state.bytes)
      guard self == .firecrackerDiffs else { return Arguments(directory) }
      let diff = try bench.directory.subdirectory("diff")
      try writeMemoryFile(
        "\(diff)/mem_file",
        byteCount: 2 << 20,
        pages: [7: incompressibleRAM(1, seed: 9), 300: [UInt8](repeating: 0, count: 4096)]
      )
      try writeFile("\(diff)/snapshot_file", state.bytes)
      return Arguments("firecracker:\(directory)", "--diff", diff)
    }
  }

  /// A migration stream that sends pages out of order, and one of them twice.
  static func stream(_ ram: [UInt8], isMapped: Bool = false) -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(machine: "pc-i440fx-7.2", capabilities: isMapped ? ["mapped-ram"] : [])
    let count = ram.count >> 12
    func page(_ index: Int) -> [UInt8] { Array(ram[(index << 12)..<((index + 1) << 12)]) }
    if isMapped {
      let stored = (0..<count).map { ($0, page($0)) }.filter { $0.1.contains { $0 != 0 } }
      stream.mappedRAM(
        [("pc.ram", count, Dictionary(uniqueKeysWithValues: stored))],
        fileOffset: 0
      )
    } else {
      stream.ramStart([("pc.ram", count)])
      stream.ramPart(2)
      stream.page("pc.ram", 3, incompressibleRAM(1, seed: 8))
      for index in (0..<count).reversed() { stream.page("pc.ram", index, page(index)) }
      stream.ramEnd()
    }
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }
}
