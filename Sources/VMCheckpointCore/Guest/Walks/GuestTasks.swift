/// Tasks: processes and their threads.
extension GuestKernel {
  package static let taskLimit = 100_000

  /// PID_MAX_LIMIT: no task has a larger number.
  static let pidLimit: Int64 = 1 << 22

  /// The processes' first threads in the kernel's order, the idle task not among them. Where the list is torn,
  /// those that only their parents still lead to come last.
  package func processLeaders() throws -> [UInt64] {
    let first = try symbol("init_task")
    let noteCount = notes.count
    let leaders = try ring(
      address(first, "task_struct", "tasks"),
      limit: Self.taskLimit,
      "processes"
    )
    .map { try container($0, "task_struct", "tasks") }
    if leaders.isEmpty, notes.count == noteCount {
      note("the list of processes is empty, which no kernel's is")
    }
    return notes.count == noteCount ? leaders : leaders + (try children(of: [first] + leaders))
  }

  /// The processes that are children of these, and theirs, and not among them.
  private func children(of tasks: [UInt64]) throws -> [UInt64] {
    guard has("task_struct", "children"), has("task_struct", "sibling") else { return [] }
    var found: [UInt64] = []
    var seen = Set(tasks)
    var waiting = tasks
    while let process = waiting.popLast(), found.count < Self.taskLimit {
      try attempt("children of task \(hexString(process))") {
        // Each thread has the children that it made.
        for thread in try threads(ofProcess: process) {
          let head = try address(thread, "task_struct", "children")
          for node in try ring(head, limit: Self.taskLimit, "children") {
            let task = try container(node, "task_struct", "sibling")
            guard seen.insert(task).inserted, try isLeader(task) else { continue }
            found.append(task)
            waiting.append(task)
          }
        }
      }
    }
    return found
  }

  /// Whether the first thread of a process seems to be at `task`.
  private func isLeader(_ task: UInt64) throws -> Bool {
    let pid = try s64(task, "task_struct", "pid")
    return try u64(task, "task_struct", "group_leader") == task && pid > 0 && pid < Self.pidLimit
  }

  /// All threads of a process, `leader` first.
  package func threads(ofProcess leader: UInt64) throws -> [UInt64] {
    let signal = try u64(leader, "task_struct", "signal")
    let head = try address(signal, "signal_struct", "thread_head")
    let others = try ring(head, limit: Self.taskLimit, "threads")
      .map { try container($0, "task_struct", "thread_node") }
      .filter { $0 != leader }
    return [leader] + others
  }

  /// A task's state as `ps` has it.
  package func taskState(_ task: UInt64) throws -> String {
    // Renamed in 5.14.
    let state = try u64(task, "task_struct", "__state", or: "state") & 0xffff_ffff
    let exit = try u64(task, "task_struct", "exit_state") & 0xffff_ffff
    if exit == 0 {
      // TASK_IDLE, and TASK_RTLOCK_WAIT.
      if state & 0x402 == 0x402 { return "I" }
      if state & 0x1000 != 0 { return "D" }
    }
    let letters = Array("RSDTtXZPI")
    let bits = (state | exit) & 0x7f
    return String(letters[min(UInt64.bitWidth - bits.leadingZeroBitCount, letters.count - 1)])
  }

  /// The namespaces' numbers of a task.
  package struct Namespaces {
    package var pid: UInt64?
    package var mount: UInt64?
    package var network: UInt64?
    package var pids: [UInt32] = []
  }

  /// Which namespaces a task is in, and its number in each of its PID namespaces, the outermost first.
  package func namespaces(_ task: UInt64) throws -> Namespaces {
    var result = Namespaces()
    let pid = try u64(task, "task_struct", "thread_pid")
    if pid != 0 {
      let level = try u64(pid, "pid", "level") & 0xffff_ffff
      guard level <= 32 else { throw GuestFault.broken("a PID has level \(level)") }
      let size = UInt64(try byteCount(of: "upid"))
      let numbers = try address(pid, "pid", "numbers")
      for index in 0...level {
        result.pids.append(
          UInt32(truncatingIfNeeded: try u64(numbers &+ index &* size, "upid", "nr"))
        )
      }
      // In the first namespace it has the number that it is known by.
      let number = try s64(task, "task_struct", "pid")
      if let first = result.pids.first, Int64(first) != number {
        note("its number is \(number), and \(first) in its PID's structure")
      }
      let namespace = try u64(numbers &+ level &* size, "upid", "ns")
      if namespace != 0 { result.pid = try namespaceNumber(namespace, "pid_namespace") }
    }
    let proxy = try u64(task, "task_struct", "nsproxy")
    if proxy != 0 {
      try attempt("the mount namespace") {
        let mount = try u64(proxy, "nsproxy", "mnt_ns")
        if mount != 0 { result.mount = try namespaceNumber(mount, "mnt_namespace") }
      }
      try attempt("the network namespace") {
        let network = try u64(proxy, "nsproxy", "net_ns")
        if network != 0 { result.network = try namespaceNumber(network, "net") }
      }
    }
    return result
  }

  /// What namespaces' numbers begin with: those of a boot come first.
  private static let firstNamespaceNumber: UInt64 = 0xefff_ff00

  /// The number of the namespace in the structure `type`.
  ///
  /// - Throws: ``GuestFault`` also when no namespace has such a number.
  func namespaceNumber(_ object: UInt64, _ type: String) throws -> UInt64 {
    let number = try u64(object, type, "ns.inum") & 0xffff_ffff
    guard number >= Self.firstNamespaceNumber else {
      throw GuestFault.broken("no namespace has the number \(number)")
    }
    return number
  }

  /// How many pages of a process are in RAM, as `VmRSS` counts: files, anonymous memory, shared memory.
  package func residentPageCount(_ mm: UInt64) throws -> Int64 {
    let field = try field("mm_struct", "rss_stat")
    var sum: Int64 = 0
    // From 6.2 on: counters of each processor. MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES.
    let isPerCPU = types.array(field.type) != nil
    let size = isPerCPU ? UInt64(try byteCount(of: "percpu_counter")) : 8
    for kind in [UInt64(0), 1, 3] {
      let counter = mm &+ UInt64(field.offset) &+ kind &* size
      sum =
        sum &+ (isPerCPU ? try sumOfPerCPUCounter(counter) : Int64(bitPattern: try u64(counter)))
    }
    return sum
  }

  /// The guest-physical address of a process's top page table.
  package func pageTableRoot(ofMemory mm: UInt64) throws -> UInt64 {
    try translate(u64(mm, "mm_struct", "pgd"))
  }
}
