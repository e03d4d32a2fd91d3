import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// The QEMU that a guest is migrated to, as far as its command line is known.
///
/// What that shows is refused before the guest runs. What it does not show, QEMU finds out itself before that.
struct QEMUPostcopyTarget {
  /// A shell may be between QEMU and this process.
  private static let maximumGenerationCount = 4
  private static let maximumCommandLineByteCount = 1 << 20
  /// How long a process may take to end whose connections are closed.
  private static let endSeconds = 2.0

  /// Its process; `nil`: not known.
  let process: Int32?
  /// The arguments; empty when they are not known.
  let arguments: [String]

  /// The QEMU that has started this process, by `exec:`.
  static func parent() -> QEMUPostcopyTarget {
    var process = getppid()
    for _ in 0..<maximumGenerationCount {
      let arguments = commandLine(of: process)
      if arguments.contains("-incoming") || arguments.contains("--incoming") {
        return QEMUPostcopyTarget(process: process, arguments: arguments)
      }
      guard let parent = parent(of: process), parent > 1 else { break }
      process = parent
    }
    return QEMUPostcopyTarget(process: nil, arguments: [])
  }

  /// The QEMU that is at the other end of a connection.
  init(process: Int32?) {
    self.init(process: process, arguments: process.map(Self.commandLine) ?? [])
  }

  private init(process: Int32?, arguments: [String]) {
    self.process = process
    self.arguments = arguments
  }

  /// What a lease has for its target.
  var leaseTarget: String { process.map { "process \($0)" } ?? "QEMU" }

  /// Whether the process is there no more, or ends soon: its connections are closed a moment before.
  var hasEnded: Bool {
    guard let process else { return false }
    let deadline = MonotonicClock.nowSeconds + Self.endSeconds
    while true {
      if kill(process, 0) != 0 { return errno == ESRCH }
      // Z: it has ended, and its parent does not know yet.
      if Self.status(of: process)?.first == "Z" { return true }
      guard MonotonicClock.nowSeconds < deadline else { return false }
      usleep(10_000)
    }
  }

  /// Checks what the command line shows.
  ///
  /// - Parameter runs: Whether the guest ran when it was saved; `nil`: not known.
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  func check(runs: Bool?, of title: String) throws(VMCheckpointError) {
    guard !arguments.isEmpty else { return }
    if runs == false, !arguments.contains("-S"), !arguments.contains("--S") {
      throw VMCheckpointError(
        .invalidArgument,
        "\(title) was saved while its guest was stopped, and this QEMU would let it run",
        hint: "start QEMU with -S, and let the guest run by the monitor's cont"
      )
    }
    for (option, value) in zip(arguments, arguments.dropFirst()) {
      let parts = value.split(separator: ",")
      if option.hasSuffix("-global"), value.hasPrefix("migration."),
        let setting = Self.forbidden.first(where: { parts.contains("migration.\($0)=on") })
      {
        throw VMCheckpointError(
          .invalidArgument,
          "QEMU's \(setting) does not go with postcopy",
          hint: "start QEMU without -global \(value)"
        )
      }
      guard !hasHugePages(option, value) else {
        throw VMCheckpointError(
          .invalidArgument,
          "QEMU's RAM is made of huge pages, which a postcopy migration from a snapshot cannot fill",
          hint:
            "give the machine memory-backend-ram, or memory-backend-memfd without hugetlb, of which the "
            + "kernel may make huge pages by itself"
        )
      }
      if option.hasSuffix("-object"), parts.first == "memory-backend-file",
        !parts.contains("share=on"), let path = parts.first(where: { $0.hasPrefix("mem-path=") }),
        !isInMemory(String(path.dropFirst("mem-path=".count)))
      {
        throw VMCheckpointError(
          .invalidArgument,
          "QEMU's RAM is a file that it maps privately, where no page can be missing",
          hint: "give the machine memory-backend-ram or memory-backend-memfd in place of "
            + "memory-backend-file"
        )
      }
    }
  }

  /// Whether an option gives the machine memory of huge pages. What is written otherwise QEMU finds out itself.
  private func hasHugePages(_ option: String, _ value: String) -> Bool {
    if option.hasSuffix("-mem-path") { return fileSystemType(value) == FileSystemType.hugePages }
    guard option.hasSuffix("-object"),
      let object = QEMUOptionText.object(value, firstName: "qom-type"),
      let type = object["qom-type"] as? String
    else { return false }
    if type == "memory-backend-file", let path = object["mem-path"] as? String {
      return fileSystemType(path) == FileSystemType.hugePages
    }
    guard type == "memory-backend-memfd" else { return false }
    let setting = object["hugetlb"]
    return setting as? Bool == true || ["on", "yes", "true", "y"].contains(setting as? String)
  }

  private static let forbidden = ["x-multifd", "multifd", "x-ignore-shared", "x-postcopy-preempt"]

  /// Whether a file is in a file system that userfaultfd works on.
  private func isInMemory(_ path: String) -> Bool {
    let kind = fileSystemType(path)
    // Where it cannot be seen from here, QEMU finds out.
    return kind < 0 || [FileSystemType.memory, FileSystemType.hugePages].contains(kind)
  }

  /// The type of the file system that QEMU finds at a path; negative when it cannot be seen.
  private func fileSystemType(_ path: String) -> Int64 {
    let isAbsolute = path.utf8.first == UInt8(ascii: "/")
    let kind = process.map {
      clinux_file_system_type("/proc/\($0)/\(isAbsolute ? "root" : "cwd/")\(path)")
    }
    // Another user's process does not show its folders.
    if let kind, kind >= 0 { return kind }
    return isAbsolute ? clinux_file_system_type(path) : -1
  }

  private static func parent(of process: Int32) -> Int32? {
    status(of: process)?.dropFirst().first.flatMap { Int32($0) }
  }

  /// The kernel's words for a process from its state on, which its parent follows.
  private static func status(of process: Int32) -> [String]? {
    guard let text = read("/proc/\(process)/stat"),
      // The program's name, in brackets, may have any characters in it.
      let end = text.lastIndex(of: UInt8(ascii: ")"))
    else { return nil }
    return text[(end + 1)...].split(separator: UInt8(ascii: " ")).map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  private static func commandLine(of process: Int32) -> [String] {
    read("/proc/\(process)/cmdline")?.split(separator: 0, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) } ?? []
  }

  private static func read(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < maximumCommandLineByteCount {
      let count = Glibc.read(descriptor, &block, block.count)
      guard count > 0 else { break }
      bytes += block[..<count]
    }
    return bytes
  }
}
