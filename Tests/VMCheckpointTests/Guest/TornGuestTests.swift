import Testing
import VMCheckpointCore
import VMCheckpointTestSupport

/// A made-up guest whose kernel's memory is damaged in one place: what is behind it is lost, and said to be, and
/// nothing else is.
@Suite struct TornGuestTests {
  private func kernel(_ guest: SyntheticGuest) throws -> GuestKernel {
    let system = try GuestSystem.find(in: try FlatGuestRAM(guest.ram))
    let kernel = try #require(system.kernel, "\(system.missing ?? "")")
    kernel.begin()
    return kernel
  }

  @Test func aListThatIsTornInOnePlaceLosesNobody() throws {
    var guest = SyntheticGuest()
    let tasks = (1...3).map(guest.task)
    guest.tearList()
    let kernel = try kernel(guest)
    #expect(try kernel.processes().map(\.task) == tasks)
    #expect(kernel.takeNotes()?.contains("list of processes") == true)
    // Nobody is there twice where a link skips others, and those are found as well.
    guest = SyntheticGuest()
    let node = guest.task(3) + guest.offset("task_struct.tasks")
    guest.put(guest.place(guest.task(1), "task_struct.tasks"), littleEndian(node))
    let skipping = try self.kernel(guest)
    #expect(try skipping.processes().map(\.pid) == [1, 2, 3])
    #expect(skipping.takeNotes()?.contains("does not point back") == true)
  }

  @Test func aListThatIsTornFromBothEndsSaysSo() throws {
    var guest = SyntheticGuest()
    guest.tearListTwice()
    let kernel = try kernel(guest)
    #expect(try kernel.processes().map(\.pid) == [1])
    #expect(kernel.takeNotes()?.contains("list of processes") == true)
    #expect(try kernel.processes(pids: 3...3).isEmpty)
    #expect(kernel.takeNotes()?.contains("list of processes") == true, "the constraint hid it")
  }

  @Test func anEmptyListOfProcessesIsNotBelieved() throws {
    var guest = SyntheticGuest()
    let head = guest.task(0) + guest.offset("task_struct.tasks")
    guest.put(SyntheticGuest.place(head), littleEndian(head) + littleEndian(head))
    let kernel = try kernel(guest)
    #expect(try kernel.processes().isEmpty)
    #expect(kernel.takeNotes()?.contains("empty") == true)
  }

  @Test func aBrokenPointerCostsWhatIsBehindItAlone() throws {
    for member in ["task_struct.real_parent", "task_struct.real_cred", "task_struct.fs"] {
      var guest = SyntheticGuest()
      guest.put(guest.place(guest.task(1), member), littleEndian(UInt64(0x4141_4141)))
      let process = try #require(try kernel(guest).processes().first)
      // The address of what is looked for behind the pointer.
      #expect(process.note?.contains("0x4141") == true, "\(member): \(process.note ?? "")")
      #expect(process.comm == "init" && process.state == "S", "\(member)")
      #expect(process.commandLine == "/sbin/init --verbose", "\(member)")
      #expect(process.executable == "/sbin/init" && process.residentPageCount == 2, "\(member)")
      #expect((process.ppid == nil) == (member == "task_struct.real_parent"))
      #expect((process.uid == nil) == (member == "task_struct.real_cred"))
      #expect((process.workingDirectory == nil) == (member == "task_struct.fs"))
    }
  }

  /// Values that no kernel has, and what the note names them by.
  @Test func valuesThatCannotBeAreNoted() throws {
    func note(_ damage: (inout SyntheticGuest) -> Void) throws -> (GuestProcess, String) {
      var guest = SyntheticGuest()
      damage(&guest)
      let process = try #require(try kernel(guest).processes().first { $0.comm == "init" })
      return (process, try #require(process.note))
    }
    func put(_ member: String, _ value: UInt64, _ byteCount: Int = 8) throws -> (
      GuestProcess, String
    ) {
      try note { guest in
        let task = guest.task(1)
        let isMemory = member.hasPrefix("mm_struct")
        let object = isMemory ? guest.pointer(task, "task_struct.mm") : task
        guest.put(guest.place(object, member), Array(littleEndian(value).prefix(byteCount)))
      }
    }
    #expect(try put("task_struct.pid", UInt64(UInt32.max - 6), 4).1.contains("number -7"))
    #expect(try put("task_struct.pid", 0, 4).1.contains("number 0"))
    #expect(try put("task_struct.pid", 2, 4).1.contains("its number is 2, and 1"))
    #expect(try put("task_struct.tgid", 77, 4).1.contains("number 77"))
    let (late, lateNote) = try put("task_struct.start_boottime", .max)
    #expect(late.startNanoseconds == nil && lateNote.contains("after boot"))
    #expect(try put("task_struct.mm", 0).1.contains("no memory"))
    let (huge, hugeNote) = try put("mm_struct.total_vm", .max - 4)
    #expect(huge.virtualPageCount == nil && hugeNote.contains("no process has"))
    #expect(huge.executable == "/sbin/init")
    let (empty, emptyNote) = try put("mm_struct.pgd", 0)
    #expect(empty.residentPageCount == nil && emptyNote.contains("structure is empty"))
    let (backwards, backwardsNote) = try put("mm_struct.arg_end", 1)
    #expect(backwards.commandLine == nil && backwardsNote.contains("the command line"))
    // Both who have a number, and only they.
    var guest = SyntheticGuest()
    guest.put(guest.place(guest.task(3), "task_struct.pid"), [2, 0, 0, 0])
    let processes = try kernel(guest).processes()
    #expect(processes.map(\.pid) == [1, 2, 2] && processes[0].note == nil)
    #expect(processes[2].note?.contains("another task has the number 2") == true)
  }

  @Test func typesThatAreDamagedAreNotSaidToBeNoneAtAll() throws {
    let typesGPA = UInt64(0x28_0000)
    var guest = SyntheticGuest()
    let whole = try GuestSystem.find(in: try FlatGuestRAM(guest.ram))
    #expect(whole.kernel?.typesRange.lowerBound == typesGPA)
    // Its header.
    guest.put(typesGPA, [UInt8](repeating: 0, count: 24))
    let damaged = try #require(try GuestSystem.find(in: try FlatGuestRAM(guest.ram)).missing)
    #expect(damaged.contains("(BTF) cannot be read: it is damaged"), "\(damaged)")
    // Left out by the dump.
    let ram = try FlatGuestRAM(SyntheticGuest().ram)
    ram.absentPFNs = [typesGPA >> 12]
    let absent = try #require(try GuestSystem.find(in: ram).missing)
    #expect(absent.contains("cannot be read") && absent.contains("left out 1 pages"), "\(absent)")
  }

  @Test func aDamagedBannerIsNotTakenForMissingPageTables() throws {
    var guest = SyntheticGuest()
    guest.put(0x20_1000, Array("Binux".utf8))
    let missing = try #require(try GuestSystem.find(in: try FlatGuestRAM(guest.ram)).missing)
    #expect(missing.contains("banner") && !missing.contains("page tables"), "\(missing)")
    let ram = try FlatGuestRAM(SyntheticGuest().ram)
    ram.absentPFNs = [0x201]
    let absent = try #require(try GuestSystem.find(in: ram).missing)
    #expect(absent.contains("GPA 0x201000 is not RAM, or absent"), "\(absent)")
  }
}
