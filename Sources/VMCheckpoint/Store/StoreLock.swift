import CLinux
import Glibc
import SystemPackage

/// The locks that keep whole operations from getting in each other's way, beside SQLite's own
/// locks, which guard single transactions.
///
/// They are open-file-description locks on bytes of a file beside the store, `PATH-lock`, which
/// is empty and stays; PATH is that of ``StoreLocation``, one for each store. (Locks on the store's own file would not do: closing any descriptor of it
/// drops SQLite's locks, which belong to the process.) The kernel drops them when their holder
/// dies, however it dies.
///
/// | byte | held shared by | held exclusively by |
/// |---|---|---|
/// | 0, chunks | whoever reads or names chunks over several transactions: save, restore, verify | whoever frees chunks: gc, and delete's second half |
/// | 1, writer | | save, gc: whoever adds chunks |
///
/// So a chunk that a save has found in the index, or that a restore has planned to read, cannot
/// be freed before that operation ends, and chunks have one writer at a time, which makes "every
/// distinct page once" hold for saves that come together.
final class StoreLock: Sendable {
  /// What a lock guards: the byte that is locked.
  enum Resource: Int64 {
    case chunks = 0
    case writer = 1
  }

  enum Mode {
    case shared
    case exclusive
  }

  /// Owned; closing it drops the lock.
  private let descriptor: FileDescriptor
  private let path: String

  private init(_ descriptor: FileDescriptor, path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  deinit {
    try? descriptor.close()
  }

  /// Keeps the lock until here.
  func release() {
    withExtendedLifetime(self) {}
  }

  /// How long to wait for a lock before giving up.
  static let defaultTimeoutSeconds = 60.0

  /// Takes the lock, waiting for up to `timeoutSeconds`; the lock is dropped when the returned
  /// object goes away.
  ///
  /// - Throws: ``VMCheckpointError``: `locked` when time is up, `cancelled`, or what opening the
  ///   lock file gave. For a store that this process may not write to, a shared lock whose file
  ///   does not exist is `nil`: nobody without write permission can free chunks, and a chunk
  ///   that goes missing all the same is an error that names it.
  static func acquire(
    _ resource: Resource,
    _ mode: Mode,
    at location: StoreLocation,
    timeoutSeconds: Double = defaultTimeoutSeconds,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) -> StoreLock? {
    let deadline = MonotonicClock.nowSeconds + timeoutSeconds
    guard var lock = try open(location, mode) else { return nil }
    while true {
      try cancellation.check()
      if try lock.attempt(resource, mode) {
        if lock.isInPlace { return lock }
        // Somebody removed the file before it was locked: others lock the one that came after it.
        guard let next = try open(location, mode) else { return nil }
        lock = next
        continue
      }
      guard MonotonicClock.nowSeconds < deadline else {
        throw VMCheckpointError(
          .locked,
          "store \(quotedName(location.given)) is in use by another save, restore, verify or gc",
          hint: "try again when it is done"
        )
      }
      usleep(20_000)
    }
  }

  /// Whether the locked file still is the one that others find beside the store.
  private var isInPlace: Bool {
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

  private static func open(
    _ location: StoreLocation,
    _ mode: Mode
  ) throws(VMCheckpointError) -> StoreLock? {
    let path = location.lock
    do {
      let descriptor = try FileDescriptor.open(
        FilePath(path),
        .readWrite,
        options: [.create, .closeOnExec, .noFollow],
        permissions: [.ownerReadWrite]
      )
      return StoreLock(descriptor, path: path)
    } catch let writeError as Errno {
      guard mode == .shared else { throw cannotOpen(path, writeError) }
      do {
        let descriptor = try FileDescriptor.open(
          FilePath(path),
          .readOnly,
          options: [.closeOnExec, .noFollow]
        )
        return StoreLock(descriptor, path: path)
      } catch let readError as Errno {
        if readError == .noSuchFileOrDirectory || readError == .permissionDenied { return nil }
        throw cannotOpen(path, readError)
      } catch { throw VMCheckpointError(.inputOutput, "\(error)") }
    } catch { throw VMCheckpointError(.inputOutput, "\(error)") }
  }

  private static func cannotOpen(_ path: String, _ error: Errno) -> VMCheckpointError {
    let denied = [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
    return VMCheckpointError(
      denied ? .permissionDenied : .inputOutput,
      "cannot open the store's lock file \(quotedName(path)): \(error)",
      hint: "writing needs write permission for the store and for its directory"
    ).orOutOfResources(error)
  }
}
