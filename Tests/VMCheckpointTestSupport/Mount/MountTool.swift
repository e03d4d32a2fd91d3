import Foundation
import Glibc

/// A store that `vmckpt mount` has mounted. The mount is taken away with the object.
package final class MountTool {
  package let directory: String
  /// What `vmckpt mount` printed; `nil` in the foreground.
  package let outcome: ProcessOutcome?
  /// The server, in the foreground.
  package let process: ChildProcess?
  private let bench: Workbench
  private let seen = SeenProcesses()

  /// Whether root may mount FUSE file systems here, which some containers forbid.
  ///
  /// Asks the kernel and not `vmckpt`: a `vmckpt mount` that does not work must fail the tests.
  package static let canMount: Bool = {
    guard geteuid() == 0, let place = try? TemporaryDirectory() else { return false }
    return mountWithoutServer(on: place.path) && umount2(place.path, Int32(MNT_DETACH)) == 0
  }()

  /// Mounts a FUSE file system whose server has ended: whoever looks at it gets ENOTCONN.
  package static func mountWithoutServer(on path: String) -> Bool {
    let device = open("/dev/fuse", O_RDWR | O_CLOEXEC)
    guard device >= 0 else { return false }
    defer { close(device) }
    let options = "fd=\(device),rootmode=40000,user_id=0,group_id=0"
    return mount("probe", path, "fuse", UInt(MS_NOSUID | MS_NODEV), options) == 0
  }

  /// Mounts on a directory of the bench, and waits until the mount answers.
  package init(
    _ bench: Workbench,
    _ references: [String] = [],
    options: [String] = [],
    name: String = "mnt"
  ) throws {
    self.bench = bench
    directory = bench.directory.file(name)
    if !exists(directory) { _ = try bench.directory.subdirectory(name) }
    let arguments = ["mount"] + references + [directory] + options
    guard options.contains("--foreground") else {
      process = nil
      let outcome = try bench.tool.start(arguments).wait()
      self.outcome = outcome
      guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
      return
    }
    outcome = nil
    let process = try bench.tool.start(arguments)
    self.process = process
    let path = "\(directory)/by-name"
    try waitUntil("the mount answers") {
      guard process.isRunning else { throw TestSetupError("\(try process.wait())") }
      return exists(path)
    }
  }

  deinit {
    _ = try? bench.tool.run("unmount", directory, "--lazy")
    for areKeepers in [true, false] {
      for pid in processes(areKeepers: areKeepers) { kill(pid, SIGKILL) }
    }
  }

  /// The path of a file in the mount.
  package func path(_ name: String) -> String { "\(directory)/\(name)" }

  /// The path of a file of a snapshot.
  package func path(_ snapshot: String, _ file: String) -> String {
    "\(directory)/by-name/\(snapshot)/\(file)"
  }

  /// The processes that serve now, or keep.
  package func processes(areKeepers: Bool) -> [Int32] {
    let found = directoryEntries("/proc").compactMap { Int32($0) }.filter { pid in
      guard let line = try? readFile(procFile: "/proc/\(pid)/cmdline") else { return false }
      let arguments = line.split(separator: "\0").map(String.init)
      guard arguments.contains(directory), arguments.contains("mount") else { return false }
      return arguments.contains("__serve-keeper") == areKeepers
    }
    seen.note(found)
    return found
  }

  /// Whether a process has all that another one would need: the device, the memory, and the leases' locks.
  package func hasMount(_ pid: Int32) -> Bool {
    let files = OtherProcesses.openFiles(pid)
    return files.contains("/dev/fuse") && files.contains("\(bench.storePath)-lock")
      && files.contains { $0.hasPrefix("/memfd:vmckpt-mount") }
  }

  /// Waits until no process serves or keeps any more, and what those had open is closed.
  package func waitUntilNobodyIsLeft() throws {
    try seen.waitUntilGone("no process is left") {
      processes(areKeepers: true) + processes(areKeepers: false)
    }
  }

  /// Takes the mount away as soon as nothing has it open: a child that another test is starting has the files of this
  /// process until its own exec.
  package func unmountWhenUnused() throws -> ProcessOutcome {
    try Self.unmountWhenUnused(directory, bench.tool)
  }

  /// The same of a mount at `directory`.
  package static func unmountWhenUnused(
    _ directory: String,
    _ tool: VMCkptTool
  ) throws -> ProcessOutcome {
    var outcome = try tool.run("unmount", directory)
    let deadline = monotonicSeconds() + 120
    while outcome.ending == .exit(75), monotonicSeconds() < deadline {
      usleep(20_000)
      outcome = try tool.run("unmount", directory)
    }
    return outcome
  }

  /// Takes the mount away, as a user does.
  @discardableResult
  package func unmount(_ options: String...) throws -> ProcessOutcome {
    try bench.tool.start(["unmount", directory] + options).wait()
  }
}

/// Reads single pages of a file, each by a request of its own as far as the kernel has not got it.
package final class PageFile: @unchecked Sendable {
  // Unchecked: `pread` may be called by several threads.

  private var descriptor: Int32

  package init(_ path: String, flags: Int32 = O_RDONLY) throws {
    descriptor = open(path, flags | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw TestSetupError("cannot open \(path): \(String(cString: strerror(errno)))")
    }
    posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_RANDOM))
  }

  deinit { closeFile() }

  package func closeFile() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }

  /// Lets the kernel forget the file's pages.
  package func forget() { posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_DONTNEED)) }

  /// A page; `nil` when it cannot be read.
  package func page(_ index: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 1, count: 4096)
    let count = pread(descriptor, &bytes, bytes.count, off_t(index * 4096))
    return count == 4096 ? bytes : nil
  }

  /// The pages among `indexes` that are not those of `ram`.
  package func mismatches(_ ram: [UInt8], _ indexes: some Sequence<Int>) -> [Int] {
    indexes.filter { index in
      page(index).map { !$0.elementsEqual(ram[(index * 4096)..<(index * 4096 + 4096)]) } ?? true
    }
  }

  /// The errno of writing a byte.
  package func writeError() -> Int32 {
    var byte: UInt8 = 1
    return pwrite(descriptor, &byte, 1, 0) < 0 ? errno : 0
  }

  /// `lseek`; `nil` for an error.
  package func seek(_ offset: Int, _ whence: Int32) -> Int? {
    let found = lseek(descriptor, off_t(offset), whence)
    return found < 0 ? nil : Int(found)
  }
}
