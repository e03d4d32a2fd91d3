import Foundation
package import Glibc
package import SystemPackage

/// The folder of what vmckpt keeps for one user on one host: `$XDG_STATE_HOME/vmckpt`; else, for root,
/// `/var/lib/vmckpt/state/vmckpt`, if the services of the package have made that; else `~/.local/state/vmckpt`.
///
/// Variables may be another user's: with `sudo -E` root has those of whoever called it. So a place that is
/// another user's is passed over, and root's files are never in another user's home.
package struct UserStateFolder: Sendable, Hashable {
  /// Absolute. The folder need not exist.
  package let path: String

  /// The folder at `path`.
  package init(path: String) {
    self.path = path
  }

  /// Where root's services keep their state (`StateDirectory=` in their units): what root does by hand must know
  /// the same keys.
  private static let servicesPlace = "/var/lib/vmckpt/state"

  /// The folder of this process's user.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `notFound` when the user has no home.
  package init(
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws(VMCheckpointError) {
    guard let first = Self.all(environment: environment).first else {
      throw VMCheckpointError(
        .notFound,
        "this user (uid \(geteuid())) has no folder for vmckpt's state",
        hint: "set XDG_STATE_HOME to a folder of this user's own"
      )
    }
    self = first
  }

  /// The folders that this process's user may have: the one that is used, and those that were or will be used in other
  /// circumstances.
  package static func all(
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> [UserStateFolder] {
    let state = environment["XDG_STATE_HOME"]
    let home = environment["HOME"].map { "\($0)/.local/state" }
    let services = geteuid() == 0 && isRoots(servicesPlace) ? servicesPlace : nil
    let places = [state, services, home, recordedHome.map { "\($0)/.local/state" }]
    var folders: [UserStateFolder] = []
    for place in places.compactMap({ $0 }) {
      // The specification of these variables has relative paths ignored.
      guard place.hasPrefix("/"), isOwn(FilePath(place)) else { continue }
      let folder = UserStateFolder(path: FilePath(place).appending("vmckpt").string)
      if !folders.contains(folder) { folders.append(folder) }
    }
    return folders
  }

  private static func isRoots(_ directory: String) -> Bool {
    var status = stat()
    return lstat(directory, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
      && status.st_uid == 0 && status.st_mode & 0o022 == 0
  }

  /// Makes the folder with mode 0700, and those above it that are missing.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate` or `permissionDenied`.
  package func make() throws(VMCheckpointError) {
    var place: FilePath = "/"
    for component in FilePath(path).components {
      place.append(component)
      guard mkdir(place.string, 0o700) != 0, errno != EEXIST else { continue }
      let error = Errno(rawValue: errno)
      var status = stat()
      // In place of "it exists", some file systems say that nothing can be made here.
      if stat(place.string, &status) == 0 { continue }
      let isDenied = [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
      throw VMCheckpointError(
        isDenied ? .permissionDenied : .cannotCreate,
        "cannot create the folder \(quotedName(place.string)): \(error)"
      ).orOutOfResources(error)
    }
  }

  /// Opens the folder.
  ///
  /// - Returns: A descriptor that the caller closes; `nil` when there is no folder.
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied` when it is not this user's alone.
  package func open() throws(VMCheckpointError) -> FileDescriptor? {
    let opened = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard opened >= 0 else {
      let error = Errno(rawValue: errno)
      if error == .noSuchFileOrDirectory { return nil }
      // The kernel says this of a symbolic link, too.
      let reason = error == .notDirectory ? "it is not a folder" : "\(error)"
      throw VMCheckpointError(
        .permissionDenied,
        "cannot open the folder \(quotedName(path)): \(reason)"
      ).orOutOfResources(error)
    }
    let descriptor = FileDescriptor(rawValue: opened)
    var status = stat()
    let problem: String? =
      if fstat(opened, &status) != 0 {
        "cannot be looked at: \(Errno(rawValue: errno))"
      } else if status.st_uid != geteuid() {
        "belongs to another user (uid \(status.st_uid))"
      } else if status.st_mode & 0o022 != 0 {
        "can be changed by other users (mode \(Self.octal(status.st_mode)))"
      } else {
        nil
      }
    guard let problem else { return descriptor }
    try? descriptor.close()
    throw VMCheckpointError(
      .permissionDenied,
      "the folder \(quotedName(path)) \(problem)",
      hint: "give it to this user, with mode 0700"
    )
  }

  /// The permissions of `mode` as people write them.
  package static func octal(_ mode: mode_t) -> String {
    let digits = String(mode & 0o7777, radix: 8)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }

  /// The user's home as the system's list of users has it.
  private static var recordedHome: String? {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16 << 10) { buffer in
      guard getpwuid_r(geteuid(), &entry, buffer.baseAddress!, buffer.count, &found) == 0,
        found != nil, let home = entry.pw_dir
      else { return nil }
      return String(validatingCString: home)
    }
  }

  /// Whether a place is this user's or the system's, or else would be made in such a one.
  private static func isOwn(_ place: FilePath) -> Bool {
    var place = place
    var status = stat()
    while stat(place.string, &status) != 0 {
      guard place.removeLastComponent() else { return false }
    }
    return status.st_uid == geteuid() || status.st_uid == 0
  }
}
