import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointTestSupport

/// A made-up guest's kernel, found by what it says of itself.
@Suite struct GuestKernelTests {
  private func kernel(_ guest: SyntheticGuest) throws -> GuestKernel {
    let system = try GuestSystem.find(in: try FlatGuestRAM(guest.ram))
    return try #require(system.kernel, "\(system.missing ?? "")")
  }

  @Test(arguments: KallsymsBuilder.Form.allCases)
  func symbolsOfEveryVersionAreFound(form: KallsymsBuilder.Form) throws {
    let kernel = try kernel(SyntheticGuest(form))
    let base = SyntheticGuest.imageStart
    #expect(kernel.imageOffset == SyntheticGuest.imageOffset)
    #expect(kernel.symbols.address(of: "init_task") == base + 0x2000)
    #expect(kernel.symbols.address(of: "function_1234") == base + 0x100 + 2468)
    #expect(kernel.symbols.name(at: base + 0x100 + 2468) == "function_1234")
    #expect(kernel.symbols.name(at: base + 0x101) == nil)
    #expect(kernel.symbols.address(of: "no_such_symbol") == nil)
    #expect(kernel.pageTables.levelCount == 4)
    #expect(kernel.release == "6.1.0-synthetic")

    var symbols = KallsymsIterator(kernel.symbols.kallsyms)
    var count = 0
    while let symbol = symbols.next() {
      count += 1
      if !symbol.isNumber {
        #expect(kernel.symbols.address(of: symbol.name) == symbol.address, "\(symbol.name)")
      }
    }
    #expect(count == kernel.symbols.kallsyms.count)
  }

  @Test func processesAreWholeWithTheirPathsAndArguments() throws {
    let processes = try kernel(SyntheticGuest()).processes()
    #expect(processes.map(\.pid) == [1, 2, 3])
    #expect(processes.map(\.comm) == ["init", "kthreadd", "worker"])
    #expect(processes.map(\.note) == [nil, nil, nil])
    let first = try #require(processes.first)
    #expect(first.commandLine == "/sbin/init --verbose")
    #expect(first.executable == "/sbin/init")
    #expect(first.workingDirectory == "/")
    #expect(first.residentPageCount == 2)
    #expect(first.namespaces.pid == 0xf000_0001)
    #expect(first.state == "S" && first.isKernelThread == false && first.ppid == 0)
  }

  @Test func everyFrameHasItsOwner() throws {
    let kernel = try kernel(SyntheticGuest())
    let table = try FrameTable(kernel)
    func frame(_ pfn: UInt64) throws -> (FrameClass, FrameOwner, String?) {
      let ordinal = try #require(table.ordinal(pfn))
      let task = table.mapping(ordinal)?.task
      return (table.frameClass(ordinal), table.owner(ordinal), task?.name)
    }
    #expect(table.note == nil)
    #expect(try frame(0x900).0 == .slab)
    #expect(try frame(0x900).1.name == "task_struct")
    #expect(try frame(SyntheticGuest.anonymousPFN).0 == .anonymous)
    #expect(try frame(SyntheticGuest.anonymousPFN).2 == "init")
    let file = try frame(SyntheticGuest.filePFN)
    #expect(file.0 == .file && file.1.name == "ext4" && file.1.file == "/sbin/init")
    #expect(try table.details(SyntheticGuest.filePFN)?.index == 5)
    #expect(try frame(0xeff).0 == .free)
    #expect(try frame(0x201).0 == .kernelImage)
    #expect(try frame(0x600).0 == .pageArray)
    #expect(try frame(0x108).0 == .pageTable)
    #expect(table.ordinal(0x1000) == nil)
  }

  @Test func missingTypesAreSaidAndNotGuessed() throws {
    let system = try GuestSystem.find(in: try FlatGuestRAM(SyntheticGuest(hasTypes: false).ram))
    #expect(system.kernel == nil)
    #expect(system.missing?.contains("BTF") == true)
    let empty = try GuestSystem.find(in: try FlatGuestRAM([UInt8](repeating: 0, count: 1 << 20)))
    #expect(empty.missing?.contains("no 64-bit Linux kernel") == true)
  }

  @Test func absentPagesCostTheirRowsAndNotTheQuery() throws {
    let guest = SyntheticGuest()
    let ram = try FlatGuestRAM(guest.ram)
    let kernel = try #require(try GuestSystem.find(in: ram).kernel)
    ram.absentPFNs = [SyntheticGuest.anonymousPFN]
    let process = try #require(try kernel.processes(pids: 1...1).first)
    #expect(process.comm == "init")
    #expect(process.note?.contains("not in RAM") == true)
  }

  @Test func textOfAGuestCannotDriveATerminal() {
    #expect(GuestText.escaped(Array("a\u{1b}[2Jb\u{7f}\u{9b}".utf8)) == "a\\x1b[2Jb\\x7f\\xc2\\x9b")
    #expect(GuestText.escaped([0x61, 0xff, 0x00, 0x62]) == "a\\xff\\x00b")
    #expect(GuestText.escaped(Array("grün\n".utf8), keepingLines: true) == "grün\n")
    // Text that is turned around, and a line that another program would see.
    #expect(
      GuestText.escaped(Array("a\u{202e}b\u{2028}".utf8)) == "a\\xe2\\x80\\xaeb\\xe2\\x80\\xa8"
    )
    // A name that looks like an escaped one is not taken for it.
    #expect(GuestText.escaped(Array(#"\x1b"#.utf8)) == #"\\x1b"#)
    #expect(GuestText.escaped(Array("\\\u{1b}".utf8)) == #"\\\x1b"#)
    #expect(GuestText.escaped([0x5c, 0xff, 0x5c, 0x5c, 0x5c]) == #"\\\xff\\\\\"#)
    // Others stay as a guest's log and its ACPI names have them.
    #expect(GuestText.escaped(Array(#"\_SB_.PCI0 a\b\"#.utf8)) == #"\_SB_.PCI0 a\b\"#)
  }
}
