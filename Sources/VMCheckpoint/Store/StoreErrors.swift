import GRDB
import Glibc
import SystemPackage

/// What to do with a store whose parts do not fit together. Bad disks are rare, and copies by `cp` are not.
private let tornCopyHint =
  "if it is a copy that cp made of a store in use, copy anew with: vmckpt backup"
private let damageHint = "see what is hurt with: vmckpt verify; \(tornCopyHint)"

extension VMCheckpointError {
  /// What a SQLite error means to a user of the store at `path`.
  ///
  /// SQLite's own message is kept: it names tables and files, never a guest's memory, because
  /// statements are bound and GRDB leaves arguments out of its descriptions.
  init(_ error: DatabaseError, storePath path: String) {
    let store = quotedName(path)
    let detail = error.message ?? "\(error.resultCode)"
    if error.extendedResultCode == .SQLITE_READONLY_ROLLBACK {
      self.init(
        .permissionDenied,
        "store \(store) holds an interrupted write, which must be undone first",
        hint: "run vmckpt list once as a user who may write to the store and its directory"
      )
      return
    }
    if error.extendedResultCode == .SQLITE_READONLY_DBMOVED {
      self.init(
        .inputOutput,
        "store \(store) was moved, replaced or removed while it was in use; nothing more was written",
        hint: "run the command again when the store is in its place"
      )
      return
    }
    switch error.resultCode {
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      let who = LockHolder.list(LockHolder.all(ofFileAt: path)) ?? "another process"
      self.init(
        .locked,
        "store \(store) is locked by \(who)",
        hint: "try again when it is done"
      )
    case .SQLITE_NOTADB:
      self.init(
        .corrupt,
        "\(store) is not a vmckpt store: it is not an SQLite database",
        hint: "give the path of a store with --store"
      )
    case .SQLITE_CORRUPT:
      self.init(
        .corrupt,
        "store \(store) is damaged: \(detail)",
        hint: damageHint
      )
    case .SQLITE_FULL:
      self.init(
        .inputOutput,
        "the disk is full: cannot write to store \(store)",
        hint:
          "free some space and try again; vmckpt prune and vmckpt delete make room, even on a full disk"
      )
    case .SQLITE_PERM:
      self.init(
        .permissionDenied,
        "a file beside store \(store) may not be used, or not be locked",
        hint: "see who owns the files whose names begin with the store's"
      )
    case .SQLITE_READONLY, .SQLITE_AUTH:
      self.init(
        .permissionDenied,
        "store \(store) is read-only",
        hint: "writing needs write permission for the store and for its directory"
      )
    case .SQLITE_CANTOPEN where FreeDescriptors.areFew:
      // SQLite does not say why. Its journal and the store's directory are opened besides the store.
      self = VMCheckpointError(.outOfResources, "cannot open store \(store)")
        .orOutOfResources(.tooManyOpenFiles)
      message += ": \(Errno.tooManyOpenFiles)"
    case .SQLITE_CANTOPEN:
      // SQLite does not say why. Where nothing is forbidden, the device has failed.
      let isForbidden = Self.isForbidden(path)
      self.init(
        isForbidden ? .permissionDenied : .inputOutput,
        "cannot open store \(store): \(detail)",
        hint: isForbidden
          ? "check the permissions of the file, its journal and its directory"
          : Self.hasNoInode(path) ? Self.noSpaceHint : nil
      )
    case .SQLITE_CONSTRAINT, .SQLITE_MISMATCH:
      self.init(
        .corrupt,
        "store \(store) does not hold together: \(detail)",
        hint: damageHint
      )
    case .SQLITE_TOOBIG:
      self.init(
        .corrupt,
        "store \(store) is damaged: it has a value that is longer than any of the format",
        hint: "see what is hurt with: vmckpt verify"
      )
    case .SQLITE_NOMEM:
      self = Self.outOfMemory(using: store)
    case .SQLITE_IOERR where error.extendedResultCode == .SQLITE_IOERR_NOMEM:
      self = Self.outOfMemory(using: store)
    case .SQLITE_IOERR where Self.limitsFileSizes:
      self.init(
        .inputOutput,
        "store \(store): \(detail)",
        hint: "raise the limit on the size of files, with: ulimit -f unlimited"
      )
    case .SQLITE_IOERR:
      self.init(
        .inputOutput,
        "store \(store): \(detail)",
        hint: "the device has reported an error: look at the kernel's log, and copy the store to "
          + "another one if that goes on"
      )
    case .SQLITE_INTERRUPT:
      self.init(.cancelled, "interrupted")
    case .SQLITE_ERROR where detail.hasPrefix("malformed database schema"):
      self.init(
        .corrupt,
        "store \(store) is damaged: \(detail)",
        hint: "restore a backup; \(tornCopyHint)"
      )
    case .SQLITE_ERROR
    where detail.hasPrefix("no such table") || detail.hasPrefix("no such column"):
      self.init(
        .corrupt,
        "store \(store) is damaged: \(detail)",
        hint: damageHint
      )
    default:
      self.init(.inputOutput, "store \(store): \(detail)")
    }
  }
}

extension VMCheckpointError {
  /// Whether this user may not use a store's file or its directory.
  fileprivate static func isForbidden(_ path: String) -> Bool {
    let directory = FilePath(path).removingLastComponent()
    let places = [
      (path, R_OK), (path + "-journal", R_OK | W_OK),
      (directory.isEmpty ? "." : directory.string, R_OK | W_OK | X_OK),
    ]
    return places.contains { access($0, $1) != 0 && [EACCES, EPERM, EROFS].contains(errno) }
  }

  /// Whether the file system that a store is on can take no other file.
  fileprivate static func hasNoInode(_ path: String) -> Bool {
    let directory = FilePath(path).removingLastComponent()
    var status = statvfs()
    // Where inodes are made as they are needed, there are 0 of 0.
    return statvfs(directory.isEmpty ? "." : directory.string, &status) == 0 && status.f_files > 0
      && status.f_favail == 0
  }

  /// Whether this process may not write files of any size. SQLite does not say that it was that.
  fileprivate static var limitsFileSizes: Bool {
    var limit = rlimit()
    return getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0
      && limit.rlim_cur != rlim_t.max
  }

  fileprivate static func outOfMemory(using store: String) -> Self {
    Self(.outOfResources, "out of memory while using store \(store)", hint: memoryHint)
  }
}

extension VMCheckpointError {
  /// What any error of the database means to a user of the store at `path`.
  init(translating error: any Error, storePath path: String) {
    switch error {
    case let error as VMCheckpointError: self = error
    case let error as DatabaseError: self.init(error, storePath: path)
    case is RowDecodingError:
      self.init(
        .corrupt,
        "store \(quotedName(path)) is damaged: a row holds a value of another type",
        hint: damageHint
      )
    default: self.init(.inputOutput, "store \(quotedName(path)): \(error)")
    }
  }
}

extension VMCheckpointError {
  /// The error as `verify` ends with it, whose user need not be sent to `verify`.
  package var whileVerifying: Self {
    guard code == .corrupt, hint?.hasPrefix("see what is hurt with") == true else { return self }
    var error = self
    error.hint = "\(tornCopyHint); otherwise Recovery.md says how to save what is whole"
    return error
  }
}

/// Runs `body` and turns SQLite's errors into the library's.
func translatingDatabaseErrors<Result>(
  storePath: String,
  _ body: () throws -> Result
) throws(VMCheckpointError) -> Result {
  do {
    return try body()
  } catch {
    throw VMCheckpointError(translating: error, storePath: storePath)
  }
}
