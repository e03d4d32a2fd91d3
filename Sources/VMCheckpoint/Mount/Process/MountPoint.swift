import CLinux
import Glibc
import SystemPackage

/// The place of a mount: making it, and taking it away.
enum MountPoint {
  static let fileSystem = "fuse.vmckpt"
  private static let device = "/dev/fuse"

  /// The absolute path of the directory that something is to be mounted on.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, `cannotCreate` when something is mounted there.
  static func path(of directory: String) throws(VMCheckpointError) -> String {
    let name = "directory \(quotedName(directory))"
    let path = try ResolvedPath.of(directory)
    let mounts = mounts()
    guard !mounts.contains(path) else {
      throw VMCheckpointError(
        .cannotCreate,
        "a store is mounted on \(name) already",
        hint: "unmount it first, with: vmckpt unmount DIR"
      )
    }
    // It would hide files of that mount, which could not be taken away.
    guard !mounts.contains(where: { path.utf8.starts(with: "\($0)/".utf8) }) else {
      throw VMCheckpointError(
        .cannotCreate,
        "\(name) belongs to a mounted store",
        hint: "mount on another directory"
      )
    }
    var status = stat()
    guard stat(path, &status) == 0 else {
      let code = Errno(rawValue: errno)
      // Where the path cannot be followed it is not found among the mounts either.
      guard code != .socketNotConnected else {
        throw VMCheckpointError(
          .cannotCreate,
          "\(name) is a mount whose server has ended",
          hint:
            "take it away first, with: vmckpt unmount DIR; or, if it is another program's, with umount"
        )
      }
      guard code == .noSuchFileOrDirectory else {
        throw VMCheckpointError.cannotOpen(name, code)
      }
      throw VMCheckpointError(.notFound, "there is no \(name)", hint: "make it first, with mkdir")
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw VMCheckpointError(.notFound, "\(quotedName(directory)) is not a directory")
    }
    guard path.utf8.count <= 1024 else {
      throw VMCheckpointError(.invalidArgument, "the path of \(name) has more than 1024 bytes")
    }
    return path
  }

  /// Mounts on `path`.
  ///
  /// - Returns: The descriptor from which requests are read.
  /// - Throws: ``VMCheckpointError``: `unavailable`, `permissionDenied`, `cannotCreate`.
  static func mount(
    on path: String,
    _ settings: MountMemory.Settings
  ) throws(VMCheckpointError) -> Int32 {
    guard !settings.isUnprivileged else {
      return try FUSEHelper.mount(on: path, allowsOthers: settings.allowsOthers)
    }
    let descriptor = open(device, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw noDevice(Errno(rawValue: errno)) }
    let result = clinux_mount_fuse(
      path,
      descriptor,
      settings.user,
      settings.group,
      settings.allowsOthers ? 1 : 0
    )
    guard result == 0 else {
      let code = Errno(rawValue: errno)
      close(descriptor)
      throw VMCheckpointError(
        code == .notPermitted || code == .permissionDenied ? .permissionDenied : .cannotCreate,
        "cannot mount on directory \(quotedName(path)): \(code)",
        hint: code == .notPermitted
          ? "in a container, mounting needs CAP_SYS_ADMIN and the device /dev/fuse" : nil
      )
    }
    return descriptor
  }

  /// Whether this user has what mounting needs.
  static var mayMount: Bool {
    guard access(device, R_OK | W_OK) == 0 else { return false }
    return geteuid() == 0 || FUSEHelper.isThere
  }

  private static func noDevice(_ code: Errno) -> VMCheckpointError {
    switch code {
    case .permissionDenied, .notPermitted:
      VMCheckpointError(.permissionDenied, "no permission to open \(device): \(code)")
    default:
      VMCheckpointError(
        .unavailable,
        "cannot open \(device): \(code)",
        hint: "load the kernel's module with: modprobe fuse; or give the container the device"
      )
    }
  }

  /// Takes a mount away.
  ///
  /// - Parameter isLazy: Whether it goes at once, while who has files open keeps them.
  /// - Throws: ``VMCheckpointError``: `locked` when files are open, `permissionDenied`.
  static func unmount(_ path: String, isLazy: Bool) throws(VMCheckpointError) {
    let name = "the mount \(quotedName(path))"
    if geteuid() != 0 { return try FUSEHelper.unmount(path, isLazy: isLazy) }
    guard clinux_unmount(path, isLazy ? 1 : 0) != 0 else { return }
    let code = Errno(rawValue: errno)
    switch code {
    case .resourceBusy: throw busy(path)
    case .notPermitted, .permissionDenied:
      throw VMCheckpointError(.permissionDenied, "cannot take away \(name): \(code)")
    default: throw VMCheckpointError(.inputOutput, "cannot take away \(name): \(code)")
    }
  }

  static func busy(_ path: String) -> VMCheckpointError {
    VMCheckpointError(
      .locked,
      "the mount \(quotedName(path)) is in use: a program has a file or folder of it open",
      hint: "end that program first (fuser -m DIR names it), or let it go on with --lazy"
    )
  }

  /// The absolute path of the mount that a user names, whose server may be gone.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `notFound` when no store is mounted there.
  static func path(ofMount directory: String) throws(VMCheckpointError) -> String {
    let mounts = mounts()
    // By the directory above first: the mount's own server may never answer, or be gone.
    let given = FilePath(directory)
    if let name = given.lastComponent, name.kind == .regular {
      let above = given.removingLastComponent().string
      let candidate = FilePath(try ResolvedPath.of(above.isEmpty ? "." : above)).appending(name)
      if mounts.contains(candidate.string) { return candidate.string }
    }
    let path = try ResolvedPath.of(directory)
    if mounts.contains(path) { return path }
    throw VMCheckpointError(
      .notFound,
      "no store is mounted on directory \(quotedName(directory))",
      hint: "see what is mounted with: findmnt -t \(fileSystem)"
    )
  }

  /// Where stores are mounted, as the kernel has it.
  static func mounts() -> Set<String> { readMounts() ?? [] }

  /// The same; `nil` where the kernel's list cannot be read.
  static func readMounts() -> Set<String>? {
    guard let file = fopen("/proc/self/mountinfo", "re") else { return nil }
    defer { fclose(file) }
    var mounts = Set<String>()
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, file) > 0, let text = line {
      let fields = String(cString: text).split(separator: " ")
      // The fields after a hyphen are the kind of file system and its source.
      guard fields.count > 6, let hyphen = fields[6...].firstIndex(of: "-"),
        hyphen + 1 < fields.count, fields[hyphen + 1] == fileSystem
      else { continue }
      mounts.insert(unescaped(fields[4]))
    }
    return mounts
  }

  /// A path in which blanks and the like are octal numbers after a backslash.
  private static func unescaped(_ field: Substring) -> String {
    let bytes = Array(field.utf8)
    var path: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "\\"), index + 3 < bytes.count,
        let byte = UInt8(
          String(decoding: bytes[(index + 1)...(index + 3)], as: UTF8.self),
          radix: 8
        )
      {
        path.append(byte)
        index += 4
      } else {
        path.append(bytes[index])
        index += 1
      }
    }
    return String(decoding: path, as: UTF8.self)
  }
}
