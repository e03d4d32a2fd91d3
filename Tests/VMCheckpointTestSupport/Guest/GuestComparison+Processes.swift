/// What the kernel said of processes and threads.
extension GuestComparison {
  /// The shell that runs the guest goes on after the truth, and so its memory may grow.
  static let runner = 1

  package var processes: Result {
    var result = Result("guest_process")
    var rows: [Int64: GuestRow] = [:]
    for row in tables["guest_process"] {
      if rows.updateValue(row, forKey: row.integer("pid") ?? -1) != nil {
        result.extra("twice \(row)")
      }
    }
    var reclaimedCount = 0
    for pid in truth.pids {
      guard let row = rows.removeValue(forKey: Int64(pid)) else {
        if !mayEnd("/proc/\(pid)") { result.missing("process \(pid)") }
        continue
      }
      result.rowCount += 1
      compareTask(&result, row, "/proc/\(pid)", pid: pid)
      compareMemory(&result, row, pid: pid, &reclaimedCount)
    }
    if reclaimedCount > result.rowCount / 10 {
      result.mistakes.append(
        "rss_pages: \(reclaimedCount) processes have fewer than the kernel said"
      )
    }
    for row in rows.values where row.text("comm")?.hasPrefix("kworker/") != true {
      result.extra("process \(row)")
    }
    return result
  }

  package var threads: Result {
    var result = Result("guest_thread")
    var rows: [Int64: GuestRow] = [:]
    for row in tables["guest_thread"] {
      if rows.updateValue(row, forKey: row.integer("tid") ?? row.integer("pid") ?? -1) != nil {
        result.extra("twice \(row)")
      }
    }
    for pid in truth.pids {
      for thread in truth.numbers(below: "/proc/\(pid)/task") {
        let path = "/proc/\(pid)/task/\(thread)"
        guard let row = rows.removeValue(forKey: Int64(thread)) else {
          if !mayEnd(path) { result.missing("thread \(thread) of \(pid)") }
          continue
        }
        result.rowCount += 1
        compareTask(&result, row, path, pid: pid)
      }
    }
    for row in rows.values where row.text("comm")?.hasPrefix("kworker/") != true {
      result.extra("thread \(row)")
    }
    return result
  }

  /// Whether it is a thread of the kernel that may have ended: workers come and go, and the thread for the
  /// interrupts of the port that the truth came through ends with it.
  private func mayEnd(_ path: String) -> Bool {
    guard let (bytes, _) = truth.stat(path) else { return false }
    let comm = String(decoding: bytes, as: UTF8.self)
    return comm.hasPrefix("kworker/") || (comm.hasPrefix("irq/") && comm.contains("tty"))
  }

  /// What a process has in common with a thread.
  private func compareTask(_ result: inout Result, _ row: GuestRow, _ path: String, pid: Int) {
    guard let (comm, fields) = truth.stat(path) else { return }
    let what = "\(path) (\(GuestTruth.shown(comm)))"
    result.expect("\(what): tgid", row.integer("tgid"), Int64(pid))
    let flags = Int64(fields[6]) ?? 0
    let isKernelThread = flags & 0x20_0000 != 0
    // /proc adds what a worker does.
    var name = row.text("comm") ?? ""
    var trueName = GuestTruth.shown(comm)
    if isKernelThread {
      if trueName.hasPrefix("kworker/") {
        // What it did last, or does now.
        (name, trueName) = (
          String(name.prefix { $0 != "-" && $0 != "+" }),
          String(trueName.prefix { $0 != "-" && $0 != "+" })
        )
      } else if flags & 0x20 != 0, trueName.count == 15 {
        // Of a work queue's rescuer, /proc does not have all that the kernel knows.
        name = String(name.prefix(15))
      }
    }
    result.expect("\(what): comm", name, trueName)

    // Kernel threads go on running, and the shell that waits for the truth waits for the host then.
    let (state, trueState) = (row.text("state") ?? "", fields[0])
    let changes: Set = ["R", "S", "D", "I"]
    let mayChange =
      (isKernelThread || pid == Self.runner) && changes.contains(state)
      && changes.contains(trueState)
    if !mayChange { result.expect("\(what): state", state, trueState) }
    if let ppid = row.integer("ppid") { result.expect("\(what): ppid", ppid, Int64(fields[1])) }
    if let nice = row.integer("nice") { result.expect("\(what): nice", nice, Int64(fields[16])) }
    if let start = row.integer("start_ns") {
      result.expect("\(what): start in 10 ms", start / 10_000_000, Int64(fields[19]))
    }
    if let flag = row.integer("kthread") {
      result.expect("\(what): kthread", flag, isKernelThread ? 1 : 0)
    }
    for (line, columns) in [("Uid", ["uid", "euid"]), ("Gid", ["gid", "egid"])] {
      let numbers = truth.status(path, line)?.split(separator: " ").map { Int64($0) } ?? []
      for (column, number) in zip(columns, numbers) {
        if let value = row.integer(column) { result.expect("\(what): \(column)", value, number) }
      }
    }
    if let numbers = row.text("nspid") {
      let truth = truth.status(path, "NSpid")?.split(separator: " ").joined(separator: ",")
      result.expect("\(what): nspid", numbers, truth)
    }
  }

  private func pages(_ line: String, of pid: Int) -> Int64? {
    truth.status("/proc/\(pid)", line)?.split(separator: " ").first.flatMap { Int64($0) }.map {
      $0 / 4
    }
  }

  private func compareMemory(
    _ result: inout Result,
    _ row: GuestRow,
    pid: Int,
    _ reclaimedCount: inout Int
  ) {
    let what = "process \(pid)"
    for (column, kind) in [("pidns", "pid"), ("mntns", "mnt"), ("netns", "net")] {
      if let number = truth.namespace(pid, kind) {
        result.expect("\(what): \(column)", row.integer(column), number)
      }
    }
    for (column, link) in [("exe", "exe"), ("cwd", "cwd")] {
      let path = truth.bytes("/proc/\(pid)/\(link)").map { GuestTruth.shown($0) }
      result.expect("\(what): \(column)", row.text(column), path)
    }
    var arguments = truth.bytes("/proc/\(pid)/cmdline") ?? []
    while arguments.last == 0 { arguments.removeLast() }
    arguments = arguments.map { $0 == 0 ? 0x20 : $0 }
    result.expect("\(what): cmdline", row.text("cmdline") ?? "", GuestTruth.shown(arguments))

    guard pid != Self.runner else { return }
    let (resident, anonymous) = (pages("VmRSS", of: pid), pages("RssAnon", of: pid))
    // The kernel may take back pages of files meanwhile, of a few processes.
    if let found = row.integer("rss_pages"), let resident, let anonymous, found < resident,
      found >= anonymous
    {
      reclaimedCount += 1
    } else {
      result.expect("\(what): rss_pages", row.integer("rss_pages"), resident)
    }
    if let size = row.integer("vsize_pages"), let (_, fields) = truth.stat("/proc/\(pid)") {
      result.expect("\(what): vsize_pages", size * 4096, Int64(fields[20]))
    }
  }
}
