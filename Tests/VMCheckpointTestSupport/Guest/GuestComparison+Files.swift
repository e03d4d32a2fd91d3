/// What the kernel said of mounts, open files and mappings.
extension GuestComparison {
  /// A namespace's table has its mounts as its process with the lowest number sees them; the truth has them for
  /// each root directory too.
  package var mounts: Result {
    var result = Result("guest_mount")
    var seen: Set<Int64> = []
    for pid in truth.pids {
      guard truth.bytes("/proc/\(pid)/mountinfo") != nil,
        let namespace = truth.namespace(pid, "mnt"), let root = truth.bytes("/proc/\(pid)/root")
      else { continue }
      let top = GuestTruth.shown(root)
      let rows = tables["guest_mount"].filter {
        $0.integer("mntns") == namespace && $0.integer("reachable") == 1
      }
      seen.insert(namespace)
      compareMounts(&result, rows, pid: pid, top: top == "/" ? "" : top)
    }
    for row in tables["guest_mount"] where !seen.contains(row.integer("mntns") ?? -1) {
      result.extra("mount \(row)")
    }
    return result
  }

  /// - Parameter top: The process's root directory, without a slash at its end.
  private func compareMounts(_ result: inout Result, _ all: [GuestRow], pid: Int, top: String) {
    var rows: [Int64: GuestRow] = [:]
    for row in all {
      let path = row.text("mountpoint") ?? ""
      if top.isEmpty || path == top || path.hasPrefix(top + "/") {
        rows[row.integer("id") ?? -1] = row
      }
    }
    for line in (truth.bytes("/proc/\(pid)/mountinfo") ?? []).split(separator: 0x0a) {
      let parts = line.split(separator: 0x20).map { GuestTruth.shown(GuestTruth.unescaped($0)) }
      guard let dash = parts.firstIndex(of: "-"), parts.count > dash + 3, let id = Int64(parts[0])
      else {
        continue
      }
      guard let row = rows.removeValue(forKey: id) else {
        result.missing("mount \(id) of process \(pid), \(parts[4])")
        continue
      }
      result.rowCount += 1
      let what = "mount \(id) of process \(pid)"
      result.expect("\(what): parent", row.integer("parent"), Int64(parts[1]))
      result.expect("\(what): dev", row.text("dev"), parts[2])
      result.expect("\(what): root", row.text("root"), parts[3])
      let path = row.text("mountpoint")?.dropFirst(top.count) ?? ""
      result.expect("\(what): mountpoint", path.isEmpty ? "/" : String(path), parts[4])
      result.expect("\(what): type", row.text("type"), parts[dash + 1])
      result.expect("\(what): source", row.text("source"), parts[dash + 2])
      let options = parts[5].split(separator: ",") + parts[dash + 3].split(separator: ",")
      result.expect("\(what): ro", row.integer("ro"), options.contains("ro") ? 1 : 0)
    }
    for row in rows.values { result.extra("mount of process \(pid): \(row)") }
  }

  package var files: Result {
    var result = Result("guest_file")
    var rows: [String: GuestRow] = [:]
    for row in tables["guest_file"] {
      rows["\(row.integer("pid") ?? -1)/fd/\(row.integer("fd") ?? -1)"] = row
    }
    for pid in truth.pids {
      for number in truth.numbers(below: "/proc/\(pid)/fd") {
        let path = "/proc/\(pid)/fd/\(number)"
        guard let link = truth.bytes(path) else { continue }
        guard let row = rows.removeValue(forKey: "\(pid)/fd/\(number)") else {
          result.missing(path)
          continue
        }
        result.rowCount += 1
        let shown = GuestTruth.shown(link)
        let what = "\(path) -> \(shown.prefix(80))"
        result.expect("\(what): path", row.text("path"), shown)
        var facts: [Substring: Substring] = [:]
        for line in truth.lines("/proc/\(pid)/fdinfo/\(number)") {
          let parts = line.split(whereSeparator: { $0 == ":" || $0 == "\t" || $0 == " " })
          if parts.count == 2 { facts[parts[0]] = parts[1] }
        }
        result.expect(
          "\(what): flags",
          row.integer("flags"),
          facts["flags"].flatMap { Int64($0, radix: 8) }
        )
        // Each word on the console moves the position that those who share it have.
        if !shown.hasPrefix("/dev/tty"), shown != "/dev/console" {
          result.expect("\(what): pos", row.integer("pos"), facts["pos"].flatMap { Int64($0) })
        }
        guard let inode = truth.inode(path) else { continue }
        result.expect("\(what): ino", row.integer("ino"), Int64(bitPattern: inode.number))
        // The kernel keeps from all who ask that a process's file is a regular one.
        let mask: Int64 = shown == "anon_inode:[pidfd]" ? 0o7777 : .max
        result.expect(
          "\(what): mode",
          row.integer("mode").map { $0 & mask },
          Int64(inode.mode) & mask
        )
        result.expect("\(what): size", row.integer("size"), inode.byteCount)
      }
    }
    for row in rows.values { result.extra("file \(row)") }
    return result
  }

  package var mappings: Result {
    var result = Result("guest_mapping")
    var rows: [String: GuestRow] = [:]
    for row in tables["guest_mapping"] {
      rows["\(row.integer("pid") ?? -1) \(row.integer("start") ?? -1)"] = row
    }
    for pid in truth.pids {
      for line in (truth.bytes("/proc/\(pid)/maps") ?? []).split(separator: 0x0a) {
        // START-END PERM OFFSET DEVICE INODE, and a path behind spaces.
        let parts = line.split(separator: 0x20, maxSplits: 5).map { Array($0) }
        let range = String(decoding: parts[0], as: UTF8.self).split(separator: "-")
        let path = parts.count > 5 ? GuestTruth.unescaped(parts[5].drop { $0 == 0x20 }) : []
        let shown = GuestTruth.shown(path)
        // The processor's, not the process's.
        if shown == "[vsyscall]" { continue }
        guard let start = UInt64(range[0], radix: 16), let end = UInt64(range[1], radix: 16),
          let row = rows.removeValue(forKey: "\(pid) \(start)")
        else {
          result.missing("mapping \(range[0]) of process \(pid), \(shown)")
          continue
        }
        result.rowCount += 1
        let what = "mapping \(range[0]) of process \(pid)"
        // The shell that runs the guest goes on.
        if pid != Self.runner || shown != "[heap]" {
          result.expect("\(what): end", row.integer("end"), Int64(end))
        }
        result.expect("\(what): perm", row.text("perm"), String(decoding: parts[1], as: UTF8.self))
        result.expect("\(what): path", row.text("path") ?? "", shown)
        if let page = row.integer("pgoff") {
          let offset = Int64(String(decoding: parts[2], as: UTF8.self), radix: 16)
          result.expect("\(what): offset", page * 4096, offset)
        } else {
          result.expect("\(what): without file", String(decoding: parts[4], as: UTF8.self), "0")
        }
      }
    }
    for row in rows.values { result.extra("mapping \(row)") }
    return result
  }
}
