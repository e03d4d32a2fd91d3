/// What of a command line depends on how QEMU was started, and is lost afterwards.
extension QEMUCommandLine {
  /// Members of options that name descriptors.
  private static let descriptorMembers: Set<String> = ["fd", "fds", "vhostfd", "vhostfds"]

  /// Options whose whole value is a path.
  private static let pathOptions: Set<String> = [
    "append-file", "bios", "cdrom", "dtb", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "initrd",
    "kernel", "pflash",
    "pidfile", "sd", "D",
  ]
  /// Members whose value is a path.
  private static let pathMembers: Set<String> = ["file", "filename", "path", "mem-path", "logfile"]
  /// Options of which a part behind `unix:` is a path.
  private static let socketOptions: Set<String> = [
    "gdb", "monitor", "parallel", "qmp", "qmp-pretty", "serial", "vnc",
  ]

  /// The first option that uses a descriptor which the program that started QEMU had open.
  package var inheritedDescriptor: Item? {
    items.first { item in
      guard let value = item.value else { return false }
      if item.option == "add-fd" { return true }
      if value.contains("/dev/fdset/") { return true }
      return QEMUOptionText.members(value).contains { name, value in
        // The monitor takes a name for one that it was given.
        Self.descriptorMembers.contains(name) && value.first?.isNumber == true
      }
    }
  }

  /// The first option with a path that is not absolute, if QEMU became a daemon, whose folder is `/`.
  package var relativePathOfDaemon: Item? {
    guard items.contains(where: { $0.option == "daemonize" }) else { return nil }
    return items.first { item in
      guard let option = item.option, let value = item.value else { return false }
      if Self.pathOptions.contains(option) { return Self.isRelative(value) }
      if Self.socketOptions.contains(option) {
        let first = QEMUOptionText.parts(value).first ?? ""
        return first.hasPrefix("unix:") && Self.isRelative(String(first.dropFirst(5)))
      }
      return QEMUOptionText.members(value).contains { name, value in
        (Self.pathMembers.contains(name) || name.hasSuffix(".filename")) && Self.isRelative(value)
      }
    }
  }

  /// Whether `path` begins in the working directory, and is not a name of a protocol's.
  private static func isRelative(_ path: String) -> Bool {
    guard let first = path.utf8.first else { return false }
    let scheme = path.prefix { $0 != "/" }
    return first != UInt8(ascii: "/") && !scheme.contains(":")
  }
}
