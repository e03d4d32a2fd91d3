/// A process of a guest, as its kernel's memory has it. What could not be read is `nil`, and ``note`` says why.
package struct GuestProcess {
  /// The address of its first thread's `task_struct`.
  package var task: UInt64
  package var pid: Int64?
  package var tgid: Int64?
  package var ppid: Int64?
  /// The name of its first thread.
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
  /// Its arguments with spaces between them.
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
  /// PF_KTHREAD.
  private static let kernelThreadFlag: UInt64 = 0x20_0000

  /// All processes, by ascending PID.
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

  /// Processes of these tasks; what is noted of the list itself goes to the last one.
  private func tasks(
    _ tasks: [UInt64],
    pids: ClosedRange<Int64>,
    withMemory: Bool
  ) throws -> [GuestProcess] {
    let listNotes = takeNotes()
    var result: [GuestProcess] = []
    for task in tasks {
      var process = GuestProcess(task: task)
      do {
        process.pid = try s64(task, "task_struct", "pid")
        guard pids.contains(process.pid!) else { continue }
        try fill(&process)
        if withMemory { try fillMemory(&process) }
      } catch let fault as GuestFault {
        note("task \(hexString(task)): \(fault)")
      }
      process.note = takeNotes()
      result.append(process)
    }
    result.sort { ($0.pid ?? .max) < ($1.pid ?? .max) }
    if let listNotes {
      if result.isEmpty { result.append(GuestProcess(task: 0)) }
      let last = result.count - 1
      result[last].note = [result[last].note, listNotes].compactMap { $0 }.joined(separator: "; ")
    }
    return result
  }

  private func fill(_ process: inout GuestProcess) throws {
    let task = process.task
    process.tgid = try s64(task, "task_struct", "tgid")
    process.comm = try text(task, "task_struct", "comm")
    let flags = try u64(task, "task_struct", "flags")
    process.isKernelThread = flags & Self.kernelThreadFlag != 0
    let parent = try u64(task, "task_struct", "real_parent")
    process.ppid = parent == 0 ? 0 : try s64(parent, "task_struct", "tgid")
    process.state = try taskState(task)
    // 5.5 renamed it.
    process.startNanoseconds = try u64(task, "task_struct", "start_boottime", or: "real_start_time")
    process.nice = try s64(task, "task_struct", "static_prio") - 120
    let credentials = try u64(task, "task_struct", "real_cred")
    process.uid = try u32(address(credentials, "cred", "uid"))
    process.euid = try u32(address(credentials, "cred", "euid"))
    process.gid = try u32(address(credentials, "cred", "gid"))
    process.egid = try u32(address(credentials, "cred", "egid"))
    process.namespaces = try namespaces(task)
  }

  private func fillMemory(_ process: inout GuestProcess) throws {
    let task = process.task
    let fs = try u64(task, "task_struct", "fs")
    if fs != 0 { process.workingDirectory = try shownPath(address(fs, "fs_struct", "pwd")) }
    let mm = try u64(task, "task_struct", "mm")
    process.mm = mm
    guard mm != 0 else { return }
    process.residentPageCount = try residentPageCount(mm)
    process.virtualPageCount = try u64(mm, "mm_struct", "total_vm")
    process.commandLine = try commandLine(mm)
    let executable = try u64(mm, "mm_struct", "exe_file")
    if executable != 0 { process.executable = try shownPath(ofFile: executable) }
  }

  private func commandLine(_ mm: UInt64) throws -> String? {
    let start = try u64(mm, "mm_struct", "arg_start")
    let end = try u64(mm, "mm_struct", "arg_end")
    guard end > start else { return "" }
    let length = Int(min(end - start, UInt64(Self.commandLineByteLimit)))
    var bytes = try userBytes(root: pageTableRoot(ofMemory: mm), start, count: length)
    if bytes.count < length {
      note("\(length - bytes.count) bytes of the command line are not in RAM")
    }
    while bytes.last == 0 { bytes.removeLast() }
    for index in bytes.indices where bytes[index] == 0 { bytes[index] = UInt8(ascii: " ") }
    return GuestText.escaped(bytes)
  }
}
