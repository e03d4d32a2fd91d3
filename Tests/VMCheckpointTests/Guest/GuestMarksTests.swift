import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointTestSupport

/// A guest whose kernel cannot be read: the sentence says why, as far as RAM shows it.
@Suite struct GuestMarksTests {
  /// 1 MiB, not all of it zero, with bytes at some places.
  private func ram(_ parts: (place: Int, bytes: [UInt8])...) throws -> FlatGuestRAM {
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    for page in 0..<200 { bytes[page * 4096 + 7] = 1 }
    for (place, part) in parts { bytes.replaceSubrange(place..<(place + part.count), with: part) }
    return try FlatGuestRAM(bytes)
  }

  private func names(_ machine: String) -> [UInt8] {
    let version = "#1 SMP Debian 6.1.1-1 (2026-01-01)"
    return ["Linux", "host", "6.1.0-1-test", version, machine, "(none)"].flatMap {
      Array($0.utf8) + [UInt8](repeating: 0, count: 65 - $0.utf8.count)
    }
  }

  private func missing(_ ram: FlatGuestRAM) throws -> String {
    let system = try GuestSystem.find(in: ram)
    #expect(system.kernel == nil)
    let missing = try #require(system.missing)
    #expect(!missing.contains("\n") && !missing.hasSuffix("."))
    #expect(try system.facts(ram).missing == missing)
    return missing
  }

  @Test func nothingIsSaidOfRAMThatSaysNothing() throws {
    #expect(try missing(ram()) == "no 64-bit Linux kernel was found: nothing in RAM is like one")
  }

  @Test(arguments: ["i686", "armv7l"]) func a32BitLinuxIsNamed(machine: String) throws {
    // The number of the system's own namespace is behind its names. The second is cut, and does not count.
    let own = names(machine) + [0, 0] + littleEndian(UInt32(0xefff_fffe))
    let ram = try ram((0x20_0f0, own), (0xff_f00, Array(names("x86_64").prefix(256))))
    #expect(try missing(ram).contains("a 32-bit Linux (\(machine))"))
    let facts = try GuestSystem.find(in: ram).facts(ram)
    #expect(facts.release == "6.1.0-1-test" && facts.machine == machine && facts.hostName == "host")
    #expect(facts.version?.hasPrefix("#1 SMP") == true)
  }

  @Test func aContainersNameIsNotTakenForTheHosts() throws {
    let container = names("x86_64") + [0, 0] + littleEndian(UInt32(0xf000_0123))
    let ram = try ram((0x5000, container))
    let facts = try GuestSystem.find(in: ram).facts(ram)
    #expect(facts.hostName == nil && facts.release == "6.1.0-1-test")
    #expect(facts.note?.contains("containers'") == true)
    // The system's own come later, and count.
    let own = names("x86_64") + [0, 0] + littleEndian(UInt32(0xefff_fffe))
    let both = try self.ram((0x5000, container), (0x9000, own))
    #expect(try GuestSystem.find(in: both).facts(both).hostName == "host")
  }

  @Test func anotherProcessorIsNamed() throws {
    #expect(try missing(ram((0x5000, names("riscv64")))).contains("another processor (riscv64)"))
  }

  @Test func pageTablesOf32BitsAreSeen() throws {
    var table = [UInt8](repeating: 0, count: 4096)
    for index in 0..<64 {
      let entry = UInt32(index) << 22 | 0x1e3
      table.replaceSubrange(
        ((768 + index) * 4)..<((769 + index) * 4),
        with: (0..<4).map { UInt8(truncatingIfNeeded: entry >> UInt32($0 * 8)) }
      )
    }
    #expect(try missing(ram((0x8000, table))).contains("of a 32-bit system"))
    // Not in order: anything else.
    table[769 * 4 + 2] = 0
    #expect(try missing(ram((0x8000, table))).contains("nothing in RAM"))
  }

  @Test func windowsIsNamedByItsKernel() throws {
    func record(_ name: String) -> [UInt8] {
      Array("RSDS".utf8) + (0..<20).map { UInt8($0) } + Array("\(name)\0".utf8)
    }
    #expect(try missing(ram((0x3ff4, record("ntkrnlmp.pdb")))).contains("Windows (ntkrnlmp.pdb)"))
    #expect(try missing(ram((0x3ff4, record("ntdll.pdb")))).contains("nothing in RAM"))
  }

  @Test func memoryThatLooksRandomIsSaidToBeLikeEncrypted() throws {
    let random = try FlatGuestRAM(incompressibleRAM(1024))
    #expect(try missing(random).contains("encrypted"))
    // As dense, but of letters alone.
    let text = try FlatGuestRAM(incompressibleRAM(1024).map { $0 & 0x7f })
    #expect(try !missing(text).contains("encrypted"))
  }

  @Test func aLinuxWithoutSymbolsIsStillALinux() throws {
    let banner = Array("Linux version 5.19.1 (me@here) #1\n\0".utf8)
    #expect(try missing(ram((0x4100, banner))).contains("a Linux is there"))
    #expect(try missing(ram((0x4100, names("aarch64")))).contains("a Linux is there"))
    // Its format is in every kernel's image, and in programs.
    #expect(try missing(ram((0x4100, Array("Linux version %s (%s)\0".utf8)))).contains("nothing"))
  }

  @Test func pagesThatWereLeftOutAreSaidToBe() throws {
    let ram = try ram()
    ram.absentPFNs = [1, 2, 3]
    #expect(
      try missing(ram).hasSuffix("; the dump left out 3 pages, and the kernel's may be among them")
    )
  }

  @Test func aKernelWithoutTypesStillSaysWhatItIs() throws {
    var guest = SyntheticGuest(hasTypes: false)
    guest.put(0xd0_0000, names("x86_64"))
    let ram = try FlatGuestRAM(guest.ram)
    #expect(try missing(ram).contains("no type information (BTF)"))
    let facts = try GuestSystem.find(in: ram).facts(ram)
    #expect(facts.release == "6.1.0-1-test" && facts.machine == "x86_64")
  }
}
