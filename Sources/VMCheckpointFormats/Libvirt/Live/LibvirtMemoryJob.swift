import Glibc
import VMCheckpoint

/// libvirt's job of writing a running domain's memory into a file: begun, watched, and aborted when it is wanted
/// no more.
struct LibvirtMemoryJob {
  /// A guest whose memory was gone over so many times writes faster than libvirt.
  private static let maximumPassCount = 10
  private static let secondsBetweenLooks = 2.0
  private static let secondsBetweenAborts = 0.5
  /// How long libvirt may take to begin, and to abort, a job that is wanted no more.
  private static let patienceBeforeBeginSeconds = 3.0
  private static let patienceSeconds = 60.0

  /// In which a job of libvirt's can leave a domain.
  private static let statesOfJob: Set<String> = [
    "paused (creating snapshot)", "paused (saving)", "paused (unknown)",
  ]

  let virsh: Virsh
  let domain: LibvirtDomain
  /// What the user calls the domain.
  let name: String
  let control: OperationControl

  /// Why a job is ended early.
  private enum Abort {
    case cancelled
    /// The guest writes faster than its memory is written.
    case guestTooFast
  }

  /// Has libvirt write the memory.
  ///
  /// - Parameter spoolDirectory: Where the file is made.
  /// - Returns: The file, which has no name any more, and for how long the guest was stopped; `nil` when it did
  ///   not run before, or libvirt does not say.
  /// - Throws: ``VMCheckpointError``. The domain runs again if it did before, and nothing is left.
  func run(
    spoolDirectory: String
  ) throws(VMCheckpointError) -> (file: LibvirtMemoryFile, pausedSeconds: Double?) {
    let startSeconds = MonotonicClock.nowSeconds
    var file = try LibvirtMemoryFile(in: spoolDirectory)
    var isLive = domain.isRunning && !domain.isEmulated
    while try write(into: file, isLive: isLive) == .guestTooFast {
      control.onWarning?("the guest writes faster than its memory can be read, and was stopped")
      isLive = false
      file.close()
      file = try LibvirtMemoryFile(in: spoolDirectory)
    }
    file.remove()
    guard file.byteCount > 0 else {
      throw VMCheckpointError(
        .unavailable,
        "libvirt has written the domain's memory to another file system than this one",
        hint: "run vmckpt where libvirtd runs, and not in a container beside it"
      )
    }
    warnOfNewDisks()
    return (file, pausedSeconds(atMost: MonotonicClock.nowSeconds - startSeconds))
  }

  private func write(
    into file: LibvirtMemoryFile,
    isLive: Bool
  ) throws(VMCheckpointError) -> Abort? {
    // A comma in a value is written twice.
    let path = file.path.split(separator: ",", omittingEmptySubsequences: false)
      .joined(separator: ",,")
    let program = try virsh.start(
      "snapshot-create-as",
      [domain.argument, "--no-metadata", "--memspec=file=\(path),snapshot=external"]
        // A disk that is not named would get a snapshot, and go on in another file.
        + domain.disks.map { "--diskspec=\($0.target),snapshot=no" }
        + (isLive ? ["--live"] : [])
    )
    let abort = watch(program, file, isLive: isLive)
    guard !program.wasKilled else {
      // Without the file the job, should it still begin or go on, fails at its end at the latest.
      file.remove()
      if file.byteCount > 0 {
        control.onWarning?("libvirt does not end its job; the domain goes on when it has ended")
      }
      throw VMCheckpointError(.cancelled, "interrupted")
    }
    letGoOn()
    if abort == .cancelled { try control.cancellation.check() }
    if program.succeeded { return nil }
    if abort == .guestTooFast { return abort }
    throw Virsh.failure(of: program, "snapshot-create-as")
  }

  /// Waits for the end of `program`, and aborts the job if there is a reason.
  ///
  /// - Returns: The reason.
  private func watch(
    _ program: RunningProgram,
    _ file: LibvirtMemoryFile,
    isLive: Bool
  ) -> Abort? {
    var abort: Abort?
    var abortSeconds = 0.0
    var nextSeconds = MonotonicClock.nowSeconds + Self.secondsBetweenLooks
    while !program.hasEnded(within: 50) {
      let now = MonotonicClock.nowSeconds
      if abort == nil || abort == .guestTooFast, control.cancellation.isCancelled {
        (abort, abortSeconds, nextSeconds) = (.cancelled, now, now)
      }
      guard now >= nextSeconds else { continue }
      if abort == nil {
        nextSeconds = now + Self.secondsBetweenLooks
        guard isLive, passCount() > Self.maximumPassCount else { continue }
        (abort, abortSeconds) = (.guestTooFast, now)
      }
      nextSeconds = now + Self.secondsBetweenAborts
      // As long as the file is empty, a job of libvirt's on this domain is another's.
      let hasBegun = file.byteCount > 0
      let patience = hasBegun ? Self.patienceSeconds : Self.patienceBeforeBeginSeconds
      if abort == .cancelled, now - abortSeconds > patience {
        program.kill()
      } else if hasBegun {
        _ = virsh.attempt("domjobabort", [domain.argument])
      }
    }
    return abort
  }

  /// How often the job has gone over the guest's memory.
  private func passCount() -> Int {
    let text = virsh.attempt("domjobinfo", [domain.argument]) ?? ""
    return LibvirtDomain.fields(text)["Iteration"].flatMap { Int($0) } ?? 0
  }

  /// Lets the domain go on if libvirt has not: whatever libvirt could not do, it may now.
  private func letGoOn() {
    guard domain.isRunning else { return }
    func state() -> String? {
      virsh.attempt("domstate", [domain.argument, "--reason"]).map {
        String($0.prefix { !$0.isNewline })
      }
    }
    // Not what the user, an error of a disk or another job has stopped meanwhile.
    guard let before = state(), Self.statesOfJob.contains(before) else { return }
    _ = virsh.attempt("resume", [domain.argument])
    guard let after = state(), Self.statesOfJob.contains(after) else { return }
    control.onWarning?(
      "domain \(quotedName(name)) is \(QMPClient.oneLine(after)), and does not go on; try virsh resume"
    )
  }

  /// A disk that was plugged in right before the job got a snapshot like those that nobody wants.
  private func warnOfNewDisks() {
    guard let disks = try? LibvirtDomain.disks(virsh, domain.uuid) else { return }
    let before = Dictionary(domain.disks.map { ($0.target, $0.source) }) { $1 }
    for disk in disks where before[disk.target] == nil {
      control.onWarning?(
        "disk \(QMPClient.oneLine(disk.target)) was plugged in during the save, and may be in a new file "
          + "of libvirt's: \(quotedName(disk.source))"
      )
    }
  }

  /// How long the guest was stopped by libvirt's account of its last job.
  private func pausedSeconds(atMost maximumSeconds: Double) -> Double? {
    guard domain.isRunning,
      let text = virsh.attempt(
        "domjobinfo",
        [domain.argument, "--completed", "--keep-completed"]
      )
    else { return nil }
    // "Total downtime:   5368         ms"
    let words = LibvirtDomain.fields(text)["Total downtime"]?.split(separator: " ") ?? []
    guard words.count == 2, words[1] == "ms", let milliseconds = Double(words[0]) else {
      return nil
    }
    let seconds = milliseconds / 1000
    return (0...maximumSeconds).contains(seconds) ? seconds : nil
  }
}
