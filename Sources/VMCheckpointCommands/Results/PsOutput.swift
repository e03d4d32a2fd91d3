import VMCheckpoint

/// What `ps` prints.
struct PsOutput: CommandOutput, Hashable {
  /// How the text looks; JSON always has all.
  struct Style: Hashable, Sendable {
    var isFull = false
    var isTree = false
    /// Whether rows are threads.
    var hasThreads = false
  }

  /// `null`: could not be read.
  struct Process: Codable, Hashable, Sendable {
    @Nullable var pid: Int64?
    /// The thread, where threads are listed; its process is `pid` then.
    @Nullable var tid: Int64?
    @Nullable var ppid: Int64?
    @Nullable var uid: UInt32?
    @Nullable var state: String?
    @Nullable var command: String?
    @Nullable var commandLine: String?
    @Nullable var executable: String?
    @Nullable var kernelThread: Bool?
    @Nullable var nice: Int64?
    /// From the guest's boot on.
    @Nullable var startNanoseconds: UInt64?
    @Nullable var residentPages: Int64?
    @Nullable var virtualPages: UInt64?
    @Nullable var note: String?

    enum CodingKeys: String, CodingKey {
      case pid, tid, ppid, uid, state, command
      case commandLine = "command_line"
      case executable
      case kernelThread = "kernel_thread"
      case nice
      case startNanoseconds = "start_nanoseconds"
      case residentPages = "resident_pages"
      case virtualPages = "virtual_pages"
      case note
    }
  }

  var snapshot: String
  var release: String
  var processes: [Process]
  var warnings: [String]
  private var style = Style()

  enum CodingKeys: CodingKey {
    case snapshot, release, processes, warnings
  }

  init(
    _ view: GuestView<[GuestProcess]>,
    showsKernelThreads: Bool,
    style: Style,
    warnings: [String]
  ) {
    snapshot = view.snapshot
    release = view.release
    processes = view.content.filter { showsKernelThreads || $0.isKernelThread != true }.map {
      Process(
        pid: style.hasThreads ? $0.tgid : $0.pid,
        tid: style.hasThreads ? $0.pid : nil,
        ppid: $0.ppid,
        uid: $0.uid,
        state: $0.state,
        command: $0.comm,
        commandLine: $0.commandLine,
        executable: $0.executable,
        kernelThread: $0.isKernelThread,
        nice: $0.nice,
        startNanoseconds: $0.startNanoseconds,
        residentPages: $0.residentPageCount,
        virtualPages: $0.virtualPageCount,
        note: $0.note
      )
    }
    self.style = style
    self.warnings = warnings
    if let note = view.note {
      self.warnings.append("processes may be missing: \(note)")
    }
    let broken = processes.count { $0.note != nil }
    if broken > 0 {
      let count =
        style.hasThreads
        ? HumanReadable.count(broken, "thread")
        : HumanReadable.count(broken, "process", "processes")
      self.warnings.append("\(count) could not be read whole: see the notes in --json")
    }
    ownWarnings = Array(self.warnings.dropFirst(warnings.count))
  }

  /// Those that the guest's memory is the reason of.
  private var ownWarnings: [String] = []

  var notice: String? {
    ownWarnings.isEmpty ? nil : ownWarnings.joined(separator: "; ")
  }

  var text: String {
    var columns: [(String, TextTable.Alignment)] = [("PID", .right)]
    if style.isFull { columns = [("UID", .right)] + columns + [("PPID", .right)] }
    if style.hasThreads { columns.append(("LWP", .right)) }
    columns.append(("STATE", .left))
    if style.isFull { columns.append(("START", .right)) }
    if !style.hasThreads {
      columns.append(("RSS", .right))
      if style.isFull { columns.append(("VSIZE", .right)) }
    }
    columns.append(("COMMAND", .left))
    return TextTable(
      columns.map { (title: $0.0, alignment: $0.1) },
      rows: (style.isTree ? Self.tree(processes) : processes.map { ($0, "") }).map(cells)
    ).text()
  }

  private func cells(_ process: Process, _ indentation: String) -> [String] {
    func text(_ value: (some CustomStringConvertible)?) -> String { value.map { "\($0)" } ?? "" }
    var cells = [text(process.pid)]
    if style.isFull { cells = [text(process.uid)] + cells + [text(process.ppid)] }
    if style.hasThreads { cells.append(text(process.tid)) }
    cells.append(process.state ?? "")
    if style.isFull {
      cells.append(
        process.startNanoseconds.map { HumanReadable.clock(seconds: $0 / 1_000_000_000) } ?? ""
      )
    }
    if !style.hasThreads {
      cells.append(process.residentPages.map { HumanReadable.pages(UInt64(clamping: $0)) } ?? "")
      if style.isFull { cells.append(process.virtualPages.map(HumanReadable.pages) ?? "") }
    }
    cells.append(indentation + shownCommand(process))
    return cells
  }

  /// The command line, or the name: in brackets where there are no arguments, as ps has it.
  private func shownCommand(_ process: Process) -> String {
    let line = process.commandLine ?? ""
    guard style.isFull, !style.hasThreads else { return process.command ?? "" }
    return line.isEmpty ? "[\(process.command ?? "")]" : line
  }

  /// Each process after its parent, with what its command is indented by. Of parents in a circle, which only
  /// a guest that lies has, the first is a root.
  private static func tree(_ processes: [Process]) -> [(Process, String)] {
    let pids = Set(processes.compactMap(\.pid))
    var children: [Int64: [Int]] = [:]
    var roots: [Int] = []
    for (index, process) in processes.enumerated() {
      if let parent = process.ppid, parent != process.pid, pids.contains(parent) {
        children[parent, default: []].append(index)
      } else {
        roots.append(index)
      }
    }
    var rows: [(Process, String)] = []
    var isShown = [Bool](repeating: false, count: processes.count)
    func show(from root: Int) {
      // Without recursion: a guest may have any depth.
      var stack = [(index: root, depth: 0)]
      while let (index, depth) = stack.popLast() {
        guard !isShown[index] else { continue }
        isShown[index] = true
        rows.append((processes[index], String(repeating: "  ", count: min(depth, 64))))
        let below = processes[index].pid.flatMap { children[$0] } ?? []
        stack += below.reversed().map { ($0, depth + 1) }
      }
    }
    for root in roots { show(from: root) }
    for index in processes.indices where !isShown[index] { show(from: index) }
    return rows
  }
}
