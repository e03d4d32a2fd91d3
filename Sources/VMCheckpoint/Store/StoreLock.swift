import CLinux
import Glibc
import SystemPackage

/// The locks that keep whole operations from getting in each other's way, beside SQLite's own
/// locks, which guard single transactions.
///
/// They are open-file-description locks on bytes of a file beside the store, `PATH-lock`, which
/// is empty and stays; PATH is that of ``StoreLocation``, one for each store. (Locks on the store's own
/// file would not do: closing any descriptor of it drops SQLite's locks, which belong to the process.)
/// The kernel drops them when their holder dies, however it dies. A user who may read the store may read
/// the file, and so take a shared lock. On a file system that is mounted read-only and has no such file,
/// a ``StoreReadTransaction`` is the shared lock.
///
/// | byte | held shared by | held exclusively by |
/// |---|---|---|
/// | 0, chunks | operations that read or name chunks over several transactions: save, restore, verify; push now and then | operations that free chunks: gc, and delete's second half |
/// | 1, writer | | operations that add chunks: save, gc |
/// | 16 + id of a lease | | who serves a snapshot's pages: ``LeaseLock`` |
///
/// So a chunk that a save has found in the index, or that a restore has planned to read, cannot be
/// freed before that operation ends. Chunks have one writer at a time: so saves that come together
/// keep to "every distinct page once".
package final class StoreLock: Sendable {
  /// What a lock guards: the byte that is locked.
  enum Resource: Int64 {
    case chunks = 0
    case writer = 1
  }

  enum Mode {
    case shared
    case exclusive
  }

  /// What is locked.
  enum Holder {
    /// The lock's file. Owned; closing it drops the lock.
    case file(FileDescriptor)
    case transaction(StoreReadTransaction)
  }

  private let holder: Holder
  private let path: String

  private init(at location: StoreLocation, _ mode: Mode) throws(VMCheckpointError) {
    path = location.lock
    holder = try StoreLockFile(location, mode).open()
  }

  deinit {
    if case .file(let descriptor) = holder { try? descriptor.close() }
  }

  /// Keeps the lock until here.
  func release() {
    withExtendedLifetime(self) {}
  }

  /// Takes the lock, waiting for up to `timeoutSeconds`; the lock is dropped when the returned
  /// object goes away.
  ///
  /// - Parameter timeoutSeconds: `nil` for as long as `cancellation` lets operations wait.
  /// - Throws: ``VMCheckpointError``: `locked` when time is up, `cancelled`, or what opening the
  ///   lock file gave, mostly `permissionDenied`. There is no operation without its lock.
  static func acquire(
    _ resource: Resource,
    _ mode: Mode,
    at location: StoreLocation,
    timeoutSeconds: Double? = nil,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) -> StoreLock {
    let deadline =
      MonotonicClock.nowSeconds + (timeoutSeconds ?? cancellation.lockWaitSeconds)
    var lock = try StoreLock(at: location, mode)
    while true {
      try cancellation.check()
      if try lock.attempt(resource, mode) {
        if lock.isInPlace { return lock }
        // Somebody removed the file before it was locked: others lock the one that came after it.
        lock = try StoreLock(at: location, mode)
        continue
      }
      guard MonotonicClock.nowSeconds < deadline else {
        throw lock.isHeld(resource, at: location, isProbe: timeoutSeconds == 0)
      }
      usleep(20_000)
    }
  }

  /// The error of a wait that has ended without the lock.
  ///
  /// - Parameter isProbe: Nobody reads the error, so who has the lock need not be found out.
  private func isHeld(
    _ resource: Resource,
    at location: StoreLocation,
    isProbe: Bool
  ) -> VMCheckpointError {
    var holders: [LockHolder] = []
    if !isProbe, case .file(let descriptor) = holder {
      holders = LockHolder.all(
        of: descriptor.rawValue,
        bytes: resource.rawValue..<(resource.rawValue + 1)
      )
    }
    let who = LockHolder.list(holders) ?? "another save, restore, verify or gc"
    return VMCheckpointError(
      .locked,
      "store \(quotedName(location.given)) is in use by \(who)",
      hint: "try again when it is done"
    )
  }

  /// Whether the locked file still is the one that others find beside the store.
  private var isInPlace: Bool {
    guard case .file(let descriptor) = holder else { return true }
    var own = stat()
    var found = stat()
    return fstat(descriptor.rawValue, &own) == 0 && lstat(path, &found) == 0
      && own.st_dev == found.st_dev && own.st_ino == found.st_ino
  }

  /// Checks, before something that needs the lock is made to last, that it still keeps others out.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `locked` when the lock file was removed.
  func requireInPlace() throws(VMCheckpointError) {
    guard !isInPlace else { return }
    throw VMCheckpointError(
      .locked,
      "the store's lock file \(quotedName(path)) was removed while it was in use",
      hint: "leave that file alone, and try again"
    )
  }

  /// Removes the lock's file, which is not needed when there is no store.
  func removeFile() { unlink(path) }

  /// One attempt. `false` when somebody else holds the lock.
  private func attempt(
    _ resource: Resource,
    _ mode: Mode
  ) throws(VMCheckpointError) -> Bool {
    let descriptor: FileDescriptor
    switch holder {
    case .transaction(let transaction): return try transaction.attempt()
    case .file(let opened): descriptor = opened
    }
    var request = flock()
    request.l_type = Int16(mode == .shared ? F_RDLCK : F_WRLCK)
    request.l_whence = Int16(SEEK_SET)
    request.l_start = off_t(resource.rawValue)
    request.l_len = 1
    while fcntl(descriptor.rawValue, clinux_f_ofd_setlk, &request) != 0 {
      switch errno {
      case EINTR: continue
      case EAGAIN, EACCES: return false
      case let code:
        throw VMCheckpointError(
          .inputOutput,
          "cannot lock \(quotedName(path)): \(Errno(rawValue: code))"
        )
      }
    }
    return true
  }
}
