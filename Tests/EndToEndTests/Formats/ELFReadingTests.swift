import Foundation
import Testing
import VMCheckpointTestSupport

/// A core that is read with its RAM at other addresses, or without part of it, is not the guest that was dumped.
@Suite struct ELFReadingTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// The memory regions of a snapshot, as in "0x0+0x3000 ram@0x0".
  private func regions(_ name: String) throws -> [String] {
    let regions = try bench.tool.json("show", name)["memory_regions"] as? [[String: Any]] ?? []
    return regions.map { region in
      func hex(_ key: String) -> String { String(region[key] as? Int ?? -1, radix: 16) }
      return "\(hex("gpa"))+\(hex("bytes")) \(region["name"] ?? "")@\(hex("file_offset"))"
    }
  }

  private func stateNames(_ name: String) throws -> [String] {
    let states = try bench.tool.json("show", name)["device_states"] as? [[String: Any]] ?? []
    return states.compactMap { $0["name"] as? String }
  }

  /// A guest with RAM below and above 4 GiB, and firmware that ends where the RAM above begins.
  private func guest(_ change: (inout ELFBuilder) -> Void = { _ in }) -> ELFBuilder {
    var elf = ELFBuilder()
    elf.notes(ELFBuilder.note("CORE", 1, [UInt8](repeating: 3, count: 336)))
    elf.load(0, sampleRAM(9))
    elf.load(1 << 32, sampleRAM(5, seed: 2))
    elf.load(0xffff_e000, sampleRAM(2, seed: 3))
    change(&elf)
    return elf
  }

  private var guestRAM: [UInt8] { sampleRAM(9) + sampleRAM(5, seed: 2) + sampleRAM(2, seed: 3) }

  /// QEMU from 7.2 on has its program headers at 192 and writes 8 where the header's size belongs.
  @Test func theLayoutOfQEMUIsRead() throws {
    let elf = guest {
      $0.gapByteCount = 128
      $0.headerByteCountField = 8
      $0.paddingByteCount = 0x3d8
    }
    let path = try bench.write("guest.elf", elf.bytes)
    // By its first bytes.
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(
      try regions("a") == [
        "0+9000 ram-below-4g@0", "ffffe000+2000 rom-0xffffe000@e000",
        "100000000+5000 ram-above-4g@9000",
      ]
    )
    #expect(try stateNames("a") == ["elf-notes"])
    #expect(try bench.restore("a") == guestRAM)
    #expect(try bench.tool.json("show", "a")["source"] as? String == "elf:\(path)")
  }

  /// With a video card QEMU's dump has its memory, and RAM without the window at 640 KiB.
  @Test func aDevicesMemoryDoesNotComeBetweenRAM() throws {
    var elf = ELFBuilder()
    for (index, gpa) in [0, 0xc_0000, 0xfd00_0000, 0xffff_f000, 1 << 32].enumerated() {
      elf.load(UInt64(gpa), sampleRAM(1, seed: UInt64(index + 1)))
    }
    let path = try bench.write("guest.elf", elf.bytes)
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(
      try regions("a") == [
        "0+1000 ram-below-4g@0", "c0000+1000 ram-0xc0000@1000",
        "fd000000+1000 load-0xfd000000@3000", "fffff000+1000 rom-0xfffff000@4000",
        "100000000+1000 ram-above-4g@2000",
      ]
    )
  }

  /// Firmware and the RAM above 4 GiB in one load, as a kernel's map of memory might join them.
  @Test func aLoadAcross4GiBBecomesTwoRegions() throws {
    var elf = ELFBuilder()
    elf.load(0xffff_e000, sampleRAM(7))
    let path = try bench.write("guest.elf", elf.bytes)
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(
      try regions("a") == ["ffffe000+2000 rom-0xffffe000@5000", "100000000+5000 ram-above-4g@0"]
    )
    let pages = sampleRAM(7)
    #expect(try bench.restore("a") == Array(pages[8192...]) + Array(pages[..<8192]))
  }

  @Test func aRealDumpsHeadIsRead() throws {
    var bytes = try ELFFixtures.firmwareHead()
    bytes += [UInt8](repeating: 0, count: 16 << 20)
    bytes += sampleRAM(64)
    let path = try bench.write("firmware.elf", bytes)
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(try regions("a") == ["0+1000000 ram@0", "fffc0000+40000 rom-0xfffc0000@1000000"])
    #expect(try Array(bench.restore("a").suffix(64 * 4096)) == sampleRAM(64))
  }

  @Test func aPipeGivesWhatAFileGives() throws {
    // In the order of addresses, and with data behind RAM.
    var elf = guest { $0.segments.swapAt(2, 3) }
    elf.segments.append(.init(type: 0, data: [1, 2, 3, 4]))
    let path = try bench.write("guest.elf", elf.bytes)
    let file = try bench.tool.json("save", path, "--name", "file")
    let pipe = try bench.tool.json("save", "elf:-", "--name", "pipe", input: .file(path))
    #expect(file["digest"] as? String == pipe["digest"] as? String)
    #expect(try stateNames("pipe") == ["elf-notes"])
  }

  @Test func aPipeWhoseOrderIsAnotherIsRefused() throws {
    let path = try bench.write("guest.elf", guest().bytes)
    expectFailure(
      try bench.tool.run("save", "elf:-", "--name", "x", input: .file(path)),
      65,
      "ELF core \"stdin\" cannot be read from a pipe: its headers, notes and RAM are not in order; "
        + "put it into a file, and write elf:PATH"
    )
    var elf = guest { $0.segments.swapAt(2, 3) }
    elf.segments[1].data.removeLast(100)
    elf.segments[1].memoryByteCount -= 100
    expectFailure(
      try bench.tool.run(
        "save",
        "elf:-",
        "--name",
        "x",
        input: .file(try bench.write("partial.elf", elf.bytes))
      ),
      65,
      "ELF core \"stdin\" cannot be read from a pipe: its loads begin or end inside pages; "
        + "put it into a file, and write elf:PATH"
    )
  }

  @Test(arguments: [false, true])
  func moreHeadersThanSixteenBitsCountAreRead(is64Bit: Bool) throws {
    let elf = guest {
      $0.is64Bit = is64Bit
      $0.machine = is64Bit ? 62 : 3
      $0.hasExtendedCount = true
      if !is64Bit { $0.segments.remove(at: 2) }
    }
    let path = try bench.write("guest.elf", elf.bytes)
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(
      try bench.restore("a") == sampleRAM(9) + (is64Bit ? sampleRAM(5, seed: 2) : [])
        + sampleRAM(2, seed: 3)
    )
  }

  /// A dump with paging has a load for each virtual address of a page.
  @Test func aPageUnderSeveralAddressesIsReadOnce() throws {
    let ram = sampleRAM(8)
    var elf = ELFBuilder()
    elf.load(0, ram, virtualAddress: 0xffff_8880_0000_0000)
    for (page, count) in [(2, 3), (2, 1), (4, 4), (7, 1)] {
      var shared = ELFBuilder.Segment(
        type: 1,
        address: UInt64(page * 4096),
        virtualAddress: UInt64(0x7f00_0000_0000 + page * 4096),
        data: Array(ram[(page * 4096)..<((page + count) * 4096)])
      )
      shared.sharedWith = (0, page * 4096)
      elf.segments.append(shared)
    }
    let path = try bench.write("paging.elf", elf.bytes)
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(try regions("a") == ["0+8000 ram@0"])
    #expect(try bench.restore("a") == ram)
  }

  /// makedumpfile leaves pages out, and nothing shows whether they were zero.
  @Test func aFilteredDumpIsToldOf() throws {
    var elf = ELFBuilder()
    elf.load(0, sampleRAM(3), memoryByteCount: 5 * 4096)
    elf.load(5 * 4096, [], memoryByteCount: 4096)
    let path = try bench.write("filtered.elf", elf.bytes)
    for source in [path, "elf:-"] {
      let outcome = try bench.tool.run(
        "save",
        source,
        "--name",
        source == path ? "file" : "pipe",
        input: .file(path)
      )
      #expect(outcome.succeeded, "\(outcome)")
      #expect(
        outcome.standardError.contains(
          "3 pages of RAM are not in the file and are recorded as absent: the dump may have been "
            + "filtered"
        )
      )
    }
    let expected = sampleRAM(3) + [UInt8](repeating: 0, count: 3 * 4096)
    #expect(try bench.restore("file") == expected)
    #expect(try bench.restore("pipe") == expected)
    #expect(
      try bench.sql.run("SELECT snapshot_id, first_pfn, page_count FROM absent_range")
        == "1|3|3\n2|3|3"
    )
    // Nobody has compared them.
    let diff = try bench.tool.succeed("diff", "file", "pipe")
    #expect(
      String(decoding: diff.standardOutput, as: UTF8.self).hasSuffix(
        "device state; 3 pages absent in both were not compared\n"
      )
    )
    let overlays = try bench.write(
      "overlays.json",
      Array(#"{"format":1,"overlays":[{"kind":"hypercall","pfn":4,"variant":"vmcall"}]}"#.utf8)
    )
    let covered = try bench.tool.run(
      "save",
      path,
      "--name",
      "covered",
      "--overlays",
      overlays
    )
    #expect(covered.succeeded, "\(covered)")
    #expect(
      covered.standardError.contains(
        "overlays cover 1 of the absent pages, the first at PFN 0x4; what is beneath them is not known"
      ),
      "\(covered)"
    )
  }

  /// A filter that leaves out every other page makes a load of each that is left.
  @Test func aCoreOfManyLoadsIsReadInTime() throws {
    let loadCount = 70_000
    var elf = ELFBuilder()
    elf.hasExtendedCount = true
    let page = incompressibleRAM(1)
    elf.load(0, page, memoryByteCount: 8192)
    for index in 1..<loadCount {
      var segment = elf.segments[0]
      segment.physicalAddress = UInt64(index) << 13
      segment.sharedWith = (0, 0)
      elf.segments.append(segment)
    }
    let path = try bench.write("many.elf", elf.bytes)
    let outcome = try bench.tool.run("save", path, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    let shown = try bench.tool.json("show", "a")
    #expect(shown["ram_bytes"] as? Int == loadCount << 13)
    #expect(shown["stored_pages"] as? Int == loadCount)
  }

  /// The ranges of `/proc/vmcore` and of `/proc/iomem` end inside pages.
  @Test func pagesThatLoadsHoldAPartOfStayWhereTheyAre() throws {
    var elf = ELFBuilder()
    let ram = incompressibleRAM(6)
    elf.load(0x1000, Array(ram[..<0x1c00]))
    elf.load(0x2d00, Array(ram[0x1d00..<0x5000]))
    elf.load(0x6100, Array(ram[0x5100..<0x5200]))
    let path = try bench.write("vmcore", elf.bytes)
    let outcome = try bench.tool.run("save", path, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.standardError.contains("the 4096 bytes that those pages lack"), "\(outcome)")
    var expected = ram
    for range in [0x1c00..<0x1d00, 0x5000..<0x5100, 0x5200..<0x6000] {
      expected.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    #expect(try regions("a") == ["1000+6000 ram-0x1000@0"])
    #expect(try bench.restore("a") == expected)
  }

  /// What an overlay covers must be stored also where the file has nothing.
  @Test(arguments: ["file", "pipe"])
  func anUnderlayInALoadThatTheFileLacksIsStored(kind: String) throws {
    var elf = ELFBuilder()
    elf.load(0, sampleRAM(3), memoryByteCount: 9 * 4096)
    let path = try bench.write("filtered.elf", elf.bytes)
    let underlay = sampleRAM(1, seed: 8)
    let overlays = try bench.write(
      "overlays.json",
      #"{"format": 1, "guest_os_id": "0x81", "overlays": [{"kind": "hypercall", "pfn": 7, "#
        + #""variant": "vmcall", "underlay": "\#(Data(underlay).base64EncodedString())"}]}"#
    )
    let outcome = try bench.tool.run(
      "save",
      kind == "file" ? path : "elf:-",
      "--name",
      "a",
      "--overlays",
      overlays,
      input: .file(path)
    )
    #expect(outcome.succeeded, "\(outcome)")
    let ram = try bench.tool.restored("a", "--overlays", "omit", in: bench.directory)
    #expect(Array(ram[(7 * 4096)..<(8 * 4096)]) == underlay)
  }
}
