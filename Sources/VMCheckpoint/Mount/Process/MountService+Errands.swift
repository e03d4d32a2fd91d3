import CLinux
import FoundationEssentials
import Glibc
import Synchronization

/// What writes to the store, or takes long: opening and closing files with RAM, and working sets.
extension MountService {
  func add(_ errand: Errand) {
    monitor.withLock {
      errands.append(errand)
      monitor.wakeAll(Self.changed)
    }
  }

  func runErrands() {
    guard let answer = try? LargeMemory.allocate(byteCount: Page.byteCount) else { return }
    defer { LargeMemory.free(answer) }
    while true {
      let errand = monitor.withLock { () -> Errand? in
        while errands.isEmpty, !isEnding { monitor.wait(for: Self.changed) }
        return errands.isEmpty ? nil : errands.removeFirst()
      }
      switch errand {
      case .none: return
      case .open(let request, let snapshot, let opened): open(request, snapshot, opened, answer)
      case .release(let request, let handle):
        release(handle)
        send(request.unique, .bytes(0), answer)
      case .storeWorkingSet(let snapshot): workingSets.store(snapshot)
      case .forget(let node, let offset, let byteCount): forget(node, offset, byteCount)
      }
    }
  }

  /// Lets the kernel forget a part of a file; with 0 bytes, all from the offset on.
  private func forget(_ node: UInt64, _ offset: UInt64, _ byteCount: Int) {
    let notice = FUSEReply.forgetNotice(node: node, offset: offset, byteCount: byteCount)
    _ = notice.withUnsafeBytes { write(device, $0.baseAddress, $0.count) }
  }

  private func open(
    _ request: FUSERequest,
    _ snapshot: MountedSnapshot,
    _ opened: OpenedRAM,
    _ answer: UnsafeMutableRawBufferPointer
  ) {
    let handle = request.lasting
    let isFirst = !memory.isOpen(snapshot.id)
    do throws(VMCheckpointError) {
      try leases.hold(snapshot)
    } catch {
      warnOnce(error.message)
      send(request.unique, .error(Self.errorNumber(error)), answer)
      return
    }
    // Zeros are not compared.
    let uuid = UUID(uuidString: snapshot.uuid) ?? UUID(uuid: UUID.none)
    guard memory.add(.init(handle: handle, snapshot: snapshot.id, uuid: uuid)) else {
      releaseLease(snapshot.id, unlessOpen: true)
      send(request.unique, .error(ENFILE), answer)
      return
    }
    _ = openSnapshots.withLock { $0.insert(snapshot.id) }
    if opened.isForWriting { begin(opened, request, snapshot, isFirst: isFirst) }
    var reply = FUSEReply(
      UnsafeMutableRawBufferPointer(rebasing: answer[FUSEReply.headerByteCount...])
    )
    reply.appendOpen(
      handle: handle,
      flags: FUSEFlag.openKeepsCache | FUSEFlag.openWithoutFlush
    )
    // Who wanted to open it is gone: nobody will close it.
    if !send(request.unique, .bytes(reply.byteCount), answer) { release(handle) }
  }

  /// Records or plays the working set of a snapshot of which a VM has opened a file.
  private func begin(
    _ opened: OpenedRAM,
    _ request: FUSERequest,
    _ snapshot: MountedSnapshot,
    isFirst: Bool
  ) {
    let start = workingSets.opened(request.lasting, request.node, of: snapshot, isFirst: isFirst)
    switch start {
    case .nothing: return
    case .recording: forget(request.node, 0, 0)
    case .playing(let set):
      let player = MountPlayer(
        device: device,
        node: request.node,
        ram: opened.ram,
        reader: { [self] () throws(VMCheckpointError) in
          try contents.reader(of: opened.file, opened.ram, in: snapshot, isOpen: isOpen)
        },
        isBusy: { [self] in readingCount.load(ordering: .relaxed) > 0 },
        isOver: { [self] in stop.isRequested || !isOpen(snapshot.id) }
      )
      monitor.withLock {
        plays.append((player, set))
        monitor.wakeAll(Self.changed)
      }
    }
  }

  func runPlays() {
    while true {
      let play = monitor.withLock { () -> (player: MountPlayer, set: WorkingSet)? in
        while plays.isEmpty, !isEnding { monitor.wait(for: Self.changed) }
        return plays.isEmpty ? nil : plays.removeFirst()
      }
      guard let play else { return }
      play.player.play(play.set)
    }
  }

  /// Stores what was recorded for long enough. To be called now and then.
  func storeWorkingSets() {
    for snapshot in workingSets.due { add(.storeWorkingSet(snapshot: snapshot)) }
  }

  private func release(_ handle: UInt64) {
    guard let (snapshot, isLast) = memory.remove(handle) else { return }
    workingSets.closed(handle, of: snapshot, isLast: isLast)
    guard isLast else { return }
    releaseLease(snapshot, unlessOpen: false)
    _ = openSnapshots.withLock { $0.remove(snapshot) }
  }

  private func releaseLease(_ snapshot: Int64, unlessOpen: Bool) {
    if unlessOpen, memory.isOpen(snapshot) { return }
    do throws(VMCheckpointError) {
      try leases.release(snapshot)
    } catch {
      warnOnce("cannot remove a lease: \(error.message); see: vmckpt lease list")
    }
  }
}

extension UUID {
  fileprivate static let none: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
}
