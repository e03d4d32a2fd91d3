/// An open file of a guest's process.
package struct GuestFile {
  package var pid: Int64
  package var descriptor: Int64?
  /// As /proc shows it.
  package var path: String?
  /// As for `open`, with O_CLOEXEC.
  package var flags: UInt64?
  package var position: Int64?
  package var inode: UInt64?
  /// Its type and permissions, as `st_mode`.
  package var mode: UInt64?
  package var byteCount: Int64?
  package var note: String?
}

extension GuestKernel {
  private static let descriptorLimit: UInt64 = 65_536
  private static let closeOnExec: UInt64 = 0o2000000

  /// A descriptor and the `struct file` behind it.
  struct OpenFile {
    var descriptor: Int
    var file: UInt64
    var closesOnExec: Bool
  }

  /// The processes' first threads by ascending PID.
  ///
  /// - Parameter pids: Others are left out.
  func leaders(
    pids: ClosedRange<Int64> = .min ... .max
  ) throws -> [(pid: Int64, task: UInt64)] {
    var result: [(pid: Int64, task: UInt64)] = []
    for task in try processLeaders() {
      do {
        let pid = try s64(task, "task_struct", "pid")
        if pids.contains(pid) { result.append((pid, task)) }
      } catch let fault as GuestFault {
        note("task \(hexString(task)): \(fault)")
      }
    }
    return result.sorted { $0.pid < $1.pid }
  }

  /// The open files of all processes, by ascending PID and descriptor.
  ///
  /// - Parameter pids: Others are left out.
  package func openFiles(pids: ClosedRange<Int64> = .min ... .max) throws -> [GuestFile] {
    let leaders = try leaders(pids: pids)
    let listNotes = takeNotes()
    var files: [GuestFile] = []
    for (pid, task) in leaders {
      let open: [OpenFile]
      do {
        open = try openFiles(ofTask: task)
      } catch let fault as GuestFault {
        note("the descriptors: \(fault)")
        open = []
      }
      if let notes = takeNotes() { files.append(GuestFile(pid: pid, note: notes)) }
      for each in open {
        var file = GuestFile(pid: pid, descriptor: Int64(each.descriptor))
        try attempt("file at \(hexString(each.file))") { try fill(&file, each) }
        file.note = takeNotes()
        files.append(file)
      }
    }
    if let listNotes { note(listNotes) }
    return files
  }

  /// The files in a task's table of descriptors; none for a kernel thread, and for a task that has ended.
  func openFiles(ofTask task: UInt64) throws -> [OpenFile] {
    let object = try u64(task, "task_struct", "files")
    guard object != 0 else { return [] }
    let table = try u64(object, "files_struct", "fdt")
    var count = try u64(table, "fdtable", "max_fds") & 0xffff_ffff
    guard count > 0, count % 64 == 0 else {
      throw GuestFault.broken("no table of descriptors has \(count) places")
    }
    if count > Self.descriptorLimit {
      note("the table of descriptors has \(count) places")
      count = Self.descriptorLimit
    }
    let pointers = try bytes(u64(table, "fdtable", "fd"), count: Int(count) * 8)
    let marks = try bytes(u64(table, "fdtable", "close_on_exec"), count: Int(count + 7) / 8)
    return pointers.withUnsafeBytes { pointers in
      (0..<Int(count)).compactMap { index in
        let file = UInt64(
          littleEndian: pointers.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
        )
        guard file != 0 else { return nil }
        return OpenFile(
          descriptor: index,
          file: file,
          closesOnExec: marks[index / 8] >> UInt8(index % 8) & 1 != 0
        )
      }
    }
  }

  private func fill(_ file: inout GuestFile, _ open: OpenFile) throws {
    file.position = try s64(open.file, "file", "f_pos")
    file.flags =
      try u64(open.file, "file", "f_flags") & 0xffff_ffff & ~Self.closeOnExec
      | (open.closesOnExec ? Self.closeOnExec : 0)
    try attempt("the inode") {
      let inode = try u64(open.file, "file", "f_inode")
      file.inode = try u64(inode, "inode", "i_ino")
      file.mode = try u64(inode, "inode", "i_mode") & 0xffff
      file.byteCount = try s64(inode, "inode", "i_size")
    }
    try attempt("the path") { file.path = try shownPath(ofFile: open.file) }
  }
}
