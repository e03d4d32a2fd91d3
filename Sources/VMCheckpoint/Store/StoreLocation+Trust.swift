import CLinux
import Glibc
import SystemPackage

/// What must be right around a store before anything of it is opened.
///
/// SQLite opens the files beside a store by their names, and believes them. It writes a journal that
/// somebody else has put there into the store, page by page.
extension StoreLocation {
  /// Checks the store's file, which need not be there, and the files beside it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied`.
  func requireTrusted() throws(VMCheckpointError) {
    for path in [file] + Self.suffixes.map({ file + $0 }) where clinux_is_mount_root(path) == 1 {
      throw VMCheckpointError(
        .permissionDenied,
        path == file
          ? "store \(quotedName(given)) is a mount point of its own, so its lock and journal would "
            + "not be shared"
          : "\(quotedName(path)), which belongs to the store, is a mount point of its own",
        hint: "mount its directory instead"
      )
    }
    for suffix in Self.suffixes {
      let path = file + suffix
      guard let reason = Self.distrust(path, of: file) else { continue }
      throw VMCheckpointError(
        .permissionDenied,
        "\(quotedName(path)) would be used as a part of the store, and \(reason)",
        hint: "remove it if you did not expect it"
      )
    }
  }

  /// Why a file beside the store at `store` must not be used, if there is such a file and a reason.
  ///
  /// It must be root's, this user's or that of the store's owner, or of somebody who may write to the
  /// store as well.
  static func distrust(_ path: String, of store: String) -> String? {
    var status = stat()
    guard lstat(path, &status) == 0 else { return nil }
    let owner = status.st_uid
    guard status.st_mode & S_IFMT == S_IFREG else {
      return "is not a regular file (its owner is uid \(owner))"
    }
    guard status.st_nlink <= 1 else {
      return "has \(status.st_nlink) names (hard links; its owner is uid \(owner))"
    }
    guard owner != 0, owner != geteuid() else { return nil }
    var storeStatus = stat()
    if lstat(store, &storeStatus) == 0, storeStatus.st_mode & S_IFMT == S_IFREG {
      guard owner != storeStatus.st_uid, storeStatus.st_mode & S_IWOTH == 0 else { return nil }
      if storeStatus.st_mode & S_IWGRP != 0, status.st_gid == storeStatus.st_gid,
        !givesItsGroup(store)
      {
        return nil
      }
    }
    return "its owner is another user (uid \(owner))"
  }

  /// Whether anybody can make files of the directory's group in it: the group then does not show
  /// who made a file.
  private static func givesItsGroup(_ path: String) -> Bool {
    var status = stat()
    guard stat(FilePath(path).removingLastComponent().string, &status) == 0 else { return true }
    return status.st_mode & (S_ISGID | S_IWOTH) == S_ISGID | S_IWOTH
  }

  /// Makes the journal where there is none, empty, as SQLite leaves it, with the store's owner and
  /// mode: then nobody else can make one in a sticky directory. Where that cannot be done, SQLite
  /// makes its own, or says why not.
  func makeJournal() {
    var (status, found) = (stat(), stat())
    guard lstat(file, &status) == 0 else { return }
    let isThere = lstat(journal, &found) == 0
    guard isThere || errno == ENOENT else { return }
    let flags = isThere ? O_RDWR : O_RDWR | O_CREAT | O_EXCL
    let descriptor = open(journal, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0o600)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    // One that is there may be of before the store was given to a group; a stranger's stays his.
    guard fstat(descriptor, &found) == 0, found.st_mode & S_IFMT == S_IFREG, found.st_nlink == 1,
      found.st_uid == geteuid() || found.st_uid == status.st_uid
    else { return }
    StoreFileAccess(status).apply(to: descriptor)
  }

  /// Checks that a guest may be saved here: not into a store that another user has put where
  /// everybody can put files. That user could read the guest.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied`.
  func requireNotPlanted() throws(VMCheckpointError) {
    var (status, place) = (stat(), stat())
    guard lstat(file, &status) == 0, stat(directory, &place) == 0,
      status.st_uid != 0, status.st_uid != geteuid(), place.st_mode & S_IWOTH != 0
    else { return }
    throw VMCheckpointError(
      .permissionDenied,
      "another user (uid \(status.st_uid)) owns store \(quotedName(given)), in a directory where "
        + "everybody can make files, and could read the guest",
      hint: "save into a store of your own, or move that one to a directory of its owner's"
    )
  }

  /// Who else can read or change what is saved here, and how to end that.
  var secrecyWarnings: [String] {
    var status = stat()
    guard lstat(file, &status) == 0 else { return [] }
    var warnings: [String] = []
    if status.st_uid != 0, status.st_uid != geteuid() {
      warnings.append(
        "another user (uid \(status.st_uid)) owns store \(quotedName(given)) and can read the guest; "
          + "chown \(geteuid()) \(quotedName(file)) ends that"
      )
    }
    let verbs = [(S_IROTH, "read"), (S_IWOTH, "change")].filter { status.st_mode & $0.0 != 0 }
    if !verbs.isEmpty {
      warnings.append(
        "every user can \(verbs.map(\.1).joined(separator: " and ")) the guests in store "
          + "\(quotedName(given)); chmod o-rw \(quotedName(file)) ends that"
      )
    }
    return warnings
  }
}

/// Who may do what with a file beside the store: the same as with the store.
struct StoreFileAccess {
  let owner: uid_t
  let group: gid_t
  /// Reading and writing; nothing else means anything for these files.
  let mode: mode_t

  /// That of the store with this status.
  init(_ store: stat) {
    owner = store.st_uid
    group = store.st_gid
    mode = store.st_mode & 0o666
  }

  /// That of a store that is not there yet.
  init() {
    owner = geteuid()
    group = getegid()
    mode = 0o600
  }

  /// Gives it to an open file, as far as this process may. Only root can give a file away.
  func apply(to descriptor: Int32) {
    var status = stat()
    guard fstat(descriptor, &status) == 0, geteuid() == 0 || geteuid() == status.st_uid else {
      return
    }
    if status.st_uid != owner || status.st_gid != group {
      let newOwner = geteuid() == 0 ? owner : uid_t.max
      if fchown(descriptor, newOwner, group) == 0 { status.st_gid = group }
    }
    // What the store's group may do is not for another group.
    let allowed = status.st_gid == group ? mode : mode & ~0o060
    if status.st_mode & 0o7777 != allowed { _ = fchmod(descriptor, allowed) }
  }
}
