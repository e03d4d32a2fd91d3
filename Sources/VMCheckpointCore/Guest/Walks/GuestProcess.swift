/// A process of a guest, as its kernel's memory has it. What could not be read is `nil`, and ``note`` says why.
package struct GuestProcess {
  /// The address of its first thread's `task_struct`.
  package var task: UInt64
  package var pid: Int64?
  package var tgid: Int64?
  package var ppid: Int64?
  /// The name of its first thread, which has at most 15 bytes; of a thread of the kernel's own, all of a longer name.
  package var comm: String?
  /// A letter as `ps` has it.
  package var state: String?
  package var uid: UInt32?
  package var euid: UInt32?
  package var gid: UInt32?
  package var egid: UInt32?
  /// Nanoseconds from the guest's boot to the process's start.
  package var startNanoseconds: UInt64?
  package var nice: Int64?
  package var isKernelThread: Bool?
  /// Its arguments with spaces between them; empty where it has none.
  package var commandLine: String?
  package var executable: String?
  package var workingDirectory: String?
  package var residentPageCount: Int64?
  package var virtualPageCount: UInt64?
  package var namespaces = GuestKernel.Namespaces()
  /// The address of its `mm_struct`; 0 when it has no memory.
  package var mm: UInt64?
  package var note: String?
}

extension GuestKernel {
  private static let commandLineByteLimit = 64 << 10
  /// TASK_COMM_LEN, without the zero at the end.
  private static let shortNameByteCount = 15
  /// Of the whole name of a kernel's thread; longer ones are cut.
  private static let threadNameByteLimit = 256
  /// PF_EXITING.
  private static let exitingFlag: UInt64 = 4
  /// Addresses of processes have at most 56 bits.
  private static let pageCountLimit: UInt64 = 1 << 44
  /// How many pages threads may have counted, or given back, that are not in the sum yet.
  private static let counterSlack: Int64 = 1 << 16
  /// 36 years: no guest runs longer.
  static let nanosecondLimit: UInt64 = 1 << 60
  /// PF_KTHREAD.
  private static let kernelThreadFlag: UInt64 = 0x20_0000

  /// All processes, by ascending PID. What is wrong with the list itself is left for ``takeNotes()``, here and in
  /// the other walks.
  ///
  /// - Parameter pids: Others are left out.
  package func processes(pids: ClosedRange<Int64> = .min ... .max) throws -> [GuestProcess] {
    try tasks(processLeaders(), pids: pids, withMemory: true)
  }

  /// All threads, by ascending number, without what threads of a process share: memory, command line, files.
  package func threads(pids: ClosedRange<Int64> = .min ... .max) throws -> [GuestProcess] {
    var tasks: [UInt64] = []
    for leader in try processLeaders() {
      do {
        tasks += try threads(ofProcess: leader)
      } catch let fault as GuestFault {
        note("threads of task \(hexString(leader)): \(fault)")
        tasks.append(leader)
      }
      guard tasks.count < Self.taskLimit else {
        note("there are more than \(Self.taskLimit) threads")
        break
      }
    }
    return try self.tasks(tasks, pids: pids, withMemory: false)
  }

  private func tasks(
    _ tasks: [UInt64],
    pids: ClosedRange<Int64>,
    withMemory: Bool
  ) throws -> [GuestProcess] {
    let listNotes = takeNotes()
    var result: [GuestProcess] = []
    var seen: Set<Int64> = []
    for task in tasks {
      var process = GuestProcess(task: task)
      do {
        let pid = try s64(task, "task_struct", "pid")
        process.pid = pid
        let isNew = seen.insert(pid).inserted
        guard pids.contains(pid) else { continue }
        if pid <= 0 || pid >= Self.pidLimit { note("no task has the number \(pid)") }
        if !isNew { note("another task has the number \(pid) as well") }
        try fill(&process, isLeader: withMemory)
        if withMemory { try fillMemory(&process) }
      } catch let fault as GuestFault {
        note("task \(hexString(task)): \(fault)")
      }
      process.note = takeNotes()
      result.append(process)
    }
    result.sort { ($0.pid ?? .max) < ($1.pid ?? .max) }
    if let listNotes { note(listNotes) }
    return result
  }

  /// Each part by itself, so that a broken pointer costs what is behind it alone.
  private func fill(_ process: inout GuestProcess, isLeader: Bool) throws {
    let task = process.task
    let tgid = try s64(task, "task_struct", "tgid")
    process.tgid = tgid
    if tgid <= 0 || tgid >= Self.pidLimit || (isLeader && tgid != process.pid) {
      note("its process has the number \(tgid), which cannot be")
    }
    process.comm = try text(task, "task_struct", "comm")
    let flags = try u64(task, "task_struct", "flags")
    process.isKernelThread = flags & Self.kernelThreadFlag != 0
    if process.isKernelThread == true, let name = process.comm {
      try attempt("the whole name") { process.comm = try wholeName(ofThread: task, from: name) }
    }
    try attempt("the parent") {
      let parent = try u64(task, "task_struct", "real_parent")
      let number = parent == 0 ? 0 : try s64(parent, "task_struct", "tgid")
      guard number >= 0, number < Self.pidLimit else {
        throw GuestFault.broken("no process has the number \(number)")
      }
      process.ppid = number
    }
    process.state = try taskState(task)
    // 5.5 renamed it.
    let start = try u64(task, "task_struct", "start_boottime", or: "real_start_time")
    if start < Self.nanosecondLimit {
      process.startNanoseconds = start
    } else {
      note("no process starts \(start) ns after boot")
    }
    let nice = try s64(task, "task_struct", "static_prio") - 120
    process.nice = nice
    try attempt("the user") {
      let credentials = try u64(task, "task_struct", "real_cred")
      process.uid = try u32(address(credentials, "cred", "uid"))
      process.euid = try u32(address(credentials, "cred", "euid"))
      process.gid = try u32(address(credentials, "cred", "gid"))
      process.egid = try u32(address(credentials, "cred", "egid"))
    }
    try attempt("the namespaces") { process.namespaces = try namespaces(task) }
  }

  /// The name of a kernel's thread, of which `task_struct` has the first 15 bytes: from 5.17 on, `struct kthread` has
  /// all of a longer one.
  private func wholeName(ofThread task: UInt64, from start: String) throws -> String {
    guard start.utf8.count == Self.shortNameByteCount, has("kthread", "full_name"),
      has("task_struct", "worker_private")
    else { return start }
    let thread = try u64(task, "task_struct", "worker_private")
    let place = thread == 0 ? 0 : try u64(thread, "kthread", "full_name")
    guard place != 0 else { return start }
    let name = try string(place, limit: Self.threadNameByteLimit)
    guard name.hasPrefix(start) else {
      throw GuestFault.broken("it does not begin as the short one")
    }
    return name
  }

  private func fillMemory(_ process: inout GuestProcess) throws {
    let task = process.task
    try attempt("the working directory") {
      let fs = try u64(task, "task_struct", "fs")
      if fs != 0 { process.workingDirectory = try shownPath(address(fs, "fs_struct", "pwd")) }
    }
    let mm = try u64(task, "task_struct", "mm")
    process.mm = mm
    guard mm != 0 else {
      let flags = try u64(task, "task_struct", "flags")
      if flags & (Self.kernelThreadFlag | Self.exitingFlag) == 0 {
        note("it has no memory, and is not ending")
      }
      return
    }
    try attempt("the memory") {
      guard try u64(mm, "mm_struct", "pgd") != 0 else {
        throw GuestFault.broken("its structure is empty")
      }
      let virtual = try u64(mm, "mm_struct", "total_vm")
      guard virtual <= Self.pageCountLimit else {
        throw GuestFault.broken("no process has \(virtual) pages")
      }
      process.virtualPageCount = virtual
      let resident = try residentPageCount(mm)
      guard resident >= -Self.counterSlack, resident <= Int64(virtual) + Self.counterSlack else {
        throw GuestFault.broken("\(resident) of its \(virtual) pages cannot be in RAM")
      }
      process.residentPageCount = max(resident, 0)
    }
    try attempt("the command line") { process.commandLine = try commandLine(mm) }
    try attempt("the executable") {
      let executable = try u64(mm, "mm_struct", "exe_file")
      if executable != 0 { process.executable = try shownPath(ofFile: executable) }
    }
  }

  private func commandLine(_ mm: UInt64) throws -> String? {
    let start = try u64(mm, "mm_struct", "arg_start")
    let end = try u64(mm, "mm_struct", "arg_end")
    guard end >= start, end < 1 << 56 else {
      throw GuestFault.broken("it ends at \(hexString(end)), and begins at \(hexString(start))")
    }
    guard end > start else { return "" }
    let length = Int(min(end - start, UInt64(Self.commandLineByteLimit)))
    var bytes = try userBytes(root: pageTableRoot(ofMemory: mm), start, count: length)
    if bytes.count < length {
      note("\(length - bytes.count) bytes of the command line are not in RAM")
    }
    guard !bytes.isEmpty else { return nil }
    while bytes.last == 0 { bytes.removeLast() }
    for index in bytes.indices where bytes[index] == 0 { bytes[index] = UInt8(ascii: " ") }
    return GuestText.escaped(bytes)
  }
}
