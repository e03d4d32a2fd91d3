import SystemPackage
import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore
@testable import VMCheckpointFormats

/// A migration stream, from its first byte to a snapshot's device states and overlays.
struct QEMUTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let path = directory.file("stream")
    try writeFile(path, input.rest())
    let capture = try QEMUStreamCapture(
      .file(path: path),
      spoolDirectory: directory.path,
      control: OperationControl()
    )
    let states = try capture.deviceStates()
    // Not the guest's own layout, so that registers of small inputs place their pages.
    let layout = try RAMLayout(contiguousByteCount: 1 << 20)
    let page = PageContents(prefix: [0x0f, 0x01, 0xc1, 0xc3], fill: 1)
    let document = try capture.overlays { pfn in layout.contains(pfn) ? page : nil }
    let hyperV = QEMUHyperVState(states[1].data, ramOffset: capture.record.ramOffset)
    for record in document.records {
      let isBare = record.underlay == nil && layout.contains(record.overlay.pfn)
      precondition(hyperV.covers(record.overlay) == isBare, "QEMU lays what is bare over RAM")
    }
    _ = try document.validated(in: layout)
    let again = try OverlayDocument(json: Array(document.encodedJSON().utf8))
    precondition(again == document, "what is found does not survive being written")
  }

  var seeds: [[UInt8]] {
    [Self.mapped, Self.hyperV]
      + [[], ["x-ignore-shared"]].map { capabilities in
        var stream = QEMUStreamBuilder()
        stream.header(capabilities: capabilities)
        stream.ramStart([("pc.ram", 3), ("vga.vram", 1)], addresses: !capabilities.isEmpty)
        stream.ramPart(2)
        stream.page("pc.ram", 0, [UInt8](repeating: 7, count: 4096))
        stream.page("pc.ram", 1, [UInt8](repeating: 0, count: 4096))
        stream.ramEnd()
        stream.ramPart(3)
        stream.page("pc.ram", 2, [UInt8](repeating: 0, count: 4095) + [1])
        stream.page("vga.vram", 0, [UInt8](repeating: 0, count: 4096))
        stream.ramEnd()
        stream.devices()
        return stream.bytes
      }
  }

  private static var hyperV: [UInt8] {
    var guest = QEMUHyperVGuest.synthetic
    // An input may not be longer than a few pages.
    guest.ram = [UInt8](repeating: 0, count: 8192)
    guest.synicPages = guest.synicPages.dropLast().map {
      ($0.name, [UInt8](repeating: 7, count: 4096))
    }
    guard let stream = try? guest.stream() else {
      preconditionFailure("the guest is made up wrongly")
    }
    return stream
  }

  /// Begins shortly before 1 MiB: a longer gap before the pages would be longer than an input may be.
  private static var mapped: [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(capabilities: ["mapped-ram"])
    let page = [UInt8](repeating: 7, count: 4096)
    stream.mappedRAM(
      [("pc.ram", 3, [1: page])],
      fileOffset: (1 << 20) - 200
    )
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }
}

/// A libvirt save image: its header, and a stream in any compression that a library undoes.
struct LibvirtTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let path = directory.file("image")
    try writeFile(path, input.rest())
    let file = try FileDescriptor.open(FilePath(path), .readOnly)
    defer { try? file.close() }
    let control = OperationControl()
    let received = try LibvirtSaveSource.receive(
      StreamReader(descriptor: file.rawValue, name: "image", cancellation: control.cancellation),
      name: "image",
      spoolDirectory: directory.path,
      control: control
    )
    _ = try received.capture.deviceStates()
    precondition(received.description.data.count > LibvirtSaveHeader.byteCount)
  }

  var seeds: [[UInt8]] {
    var stream = QEMUStreamBuilder()
    stream.header()
    stream.ramStart([("pc.ram", 2)])
    stream.ramPart(3)
    stream.page("pc.ram", 0, [UInt8](repeating: 7, count: 4096))
    stream.ramEnd()
    stream.devices()
    return (UInt32(0)...5).compactMap { format in
      // lzop is a program of its own.
      guard format != 4 else { return nil }
      var image = LibvirtImageBuilder()
      image.format = format
      image.room = 8
      return (try? LibvirtImageBuilder.compress(stream.bytes, format: format)).map {
        image.image(stream: $0)
      }
    }
  }
}

/// A snapshot of propolis-standalone: the tar archive, its TOML and its JSON.
struct PropolisTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    var archive = input.rest()
    mendChecksums(&archive)
    let path = directory.file("web.tar")
    try writeFile(path, archive)
    let opened = try PropolisArchive.open(path: path)
    try opened.descriptor.close()
    if let overlays = opened.overlays { _ = try overlays.validated(in: opened.archive.layout) }
    // What restore reads of a store, which may be hostile too.
    var skeleton = TarSkeleton(opened.archive.index.skeleton)
    _ = try PropolisArchive(TarIndex(reading: &skeleton))
  }

  /// Mutated headers would all fail by their checksum: every block that looks like one gets it right.
  private func mendChecksums(_ archive: inout [UInt8]) {
    for start in stride(from: 0, to: archive.count - 511, by: 512)
    where archive[start + 257..<start + 262].elementsEqual("ustar".utf8) {
      archive.replaceSubrange(start + 148..<start + 156, with: "        ".utf8)
      let sum = archive[start..<start + 512].reduce(0) { $0 + Int($1) }
      let digits = String(sum, radix: 8)
      let field = String(repeating: "0", count: 6 - digits.count) + digits + "\u{0} "
      archive.replaceSubrange(start + 148..<start + 156, with: field.utf8)
    }
  }

  var seeds: [[UInt8]] {
    [TarBuilder.Format.gnu, .ustar].map { format in
      var sample = PropolisSample()
      sample.addHyperV(#"{"msr_guest_os_id":1,"msr_hypercall":4097,"reference_tsc":null}"#)
      // The RAM of a real one is longer than an input may be.
      sample.ram = Array(sample.ram.prefix(8192))
      return sample.archive(format: format).bytes
    }
  }
}

/// The forms in which VMMs give their Hyper-V registers: RON, JSON, MSRs; and TOML.
struct RegisterTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let kind = input.choice(of: 4)
    let text = input.rest()
    let interface: HyperVInterface
    switch kind {
    case 0: interface = try HyperVInterface(propolisRON: text)
    case 1: interface = try HyperVInterface(propolisJSON: text)
    case 2: interface = try HyperVInterface(registersJSON: text)
    default:
      _ = try PropolisConfig.ramByteCount(text)
      return
    }
    try interface.check(layout: RAMLayout(contiguousByteCount: 1 << 30))
    let document = try interface.overlayDocument()
    // What is written is read again as the same.
    let again = try OverlayDocument(json: Array(document.encodedJSON().utf8))
    precondition(again == document, "a document does not survive being written")
    _ = interface.registersJSON()
    if let ron = try? interface.propolisRON() {
      let again = try HyperVInterface(propolisRON: Array(ron.utf8))
      precondition(again == interface, "a payload does not survive being written")
    }
  }

  var seeds: [[UInt8]] {
    [
      "\u{0}(msr_guest_os_id:1,msr_hypercall:4097,reference_tsc:Some((msr_value:8193,guest_freq:2400000000)))",
      "\u{0}( msr_guest_os_id: 0x10, msr_hypercall: 0, reference_tsc: None, )",
      "\u{1}{\"msr_guest_os_id\":1,\"msr_hypercall\":4097,\"reference_tsc\":{\"msr_value\":8193,\"guest_freq\":24}}",
      "\u{2}{\"msrs\":{\"0x40000000\":\"0x1\",\"0x40000001\":4097,\"0x40000021\":8193},\"tsc_frequency_hz\":24}",
      "\u{3}[main]\nname = \"web\"\nmemory = 1024\n[block_dev.disk0]\ntype = \"file\"\n",
    ].map { Array($0.utf8) }
  }
}

/// overlays.json.
struct OverlayTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let document = try OverlayDocument(json: input.rest())
    let again = try OverlayDocument(json: Array(document.encodedJSON().utf8))
    precondition(again == document, "a document does not survive being written")
    let plan = try document.validated(in: RAMLayout(contiguousByteCount: 1 << 30))
    for stack in plan.stacks {
      for overlay in stack.overlays { _ = overlay.contents() }
    }
  }

  var seeds: [[UInt8]] {
    [
      #"{"format":1,"guest_os_id":"0x81","overlays":[{"kind":"hypercall","pfn":"0x40","variant":"return-not-supported","underlay":"zero"}]}"#,
      #"{"format":1,"overlays":[{"kind":"reference-tsc","pfn":16385,"tsc_frequency_hz":2400000000}]}"#,
      #"{"format":1,"overlays":[{"kind":"reference-tsc","pfn":2,"sequence":7,"scale":"0x10","offset":-12}]}"#,
      #"{"format":1,"overlays":[{"kind":"synic-message","vp":0,"pfn":3,"contents":"\#(String(repeating: "QUJD", count: 1365))QQ=="}]}"#,
      #"{"format":1,"overlays":[{"kind":"vp-assist","vp":3,"pfn":3,"underlay":"unknown","contents":"AA=="}]}"#,
    ].map { Array($0.utf8) }
  }
}
