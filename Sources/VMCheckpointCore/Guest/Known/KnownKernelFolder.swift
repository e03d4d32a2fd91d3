import Glibc

/// A folder with a small file for each kernel that was found in a guest's RAM, so that the next guest with that
/// kernel needs no search: `$XDG_CACHE_HOME/vmckpt/kernels`, else `~/.cache/vmckpt/kernels`.
///
/// It is never needed. What cannot be read or written there is as if it were not there, and nothing is said of
/// it. Files have mode 0600 in folders with mode 0700, come whole by a rename, and name no guest: they have the
/// SHA-256 of a page of the kernel's own read-only data, which its distribution publishes, and distances.
package struct KnownKernelFolder: Sendable, Hashable {
  /// Absolute. The folder need not exist.
  package let path: String

  package init(path: String) { self.path = path }

  /// With the value `off`, nothing is kept and nothing is read.
  package static let variable = "VMCKPT_KERNEL_CACHE"
  /// More files are removed, those that were used longest ago first: 8 KiB in all.
  package static let maximumCount = 128
  /// Of a folder with more entries the rest is not looked at.
  private static let maximumEntryCount = 4096
  private static let temporaryPrefix = ".new-"
  private static let secondsOfDay = 86_400

  /// The folder of this process's user; `nil` when there is none, or it is turned off.
  package static var standard: KnownKernelFolder? {
    guard value(of: variable) != "off" else { return nil }
    let places = [value(of: "XDG_CACHE_HOME"), value(of: "HOME").map { "\($0)/.cache" }]
    // The specification of these variables has relative paths ignored.
    guard let place = places.compactMap({ $0 }).first(where: { $0.hasPrefix("/") }) else {
      return nil
    }
    return KnownKernelFolder(path: "\(place)/vmckpt/kernels")
  }

  private static func value(of variable: String) -> String? {
    getenv(variable).flatMap { String(validatingCString: $0) }
  }

  // MARK: Reading

  /// The anchors of the kernels that are known.
  package func anchors() -> Set<PageDigest> {
    withFolder { folder in Set(Self.names(in: folder).compactMap(Self.digest)) } ?? []
  }

  /// What is known of the kernel with this anchor; `nil` where that is nothing, or damaged.
  package func kernel(_ anchor: PageDigest) -> KnownKernel? {
    withFolder { folder in
      let file = openat(
        folder,
        anchor.description,
        O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK
      )
      guard file >= 0 else { return nil }
      defer { close(file) }
      var status = stat()
      guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
        status.st_uid == geteuid(), status.st_size == KnownKernel.byteCount
      else { return nil }
      var bytes = [UInt8](repeating: 0, count: KnownKernel.byteCount)
      guard pread(file, &bytes, bytes.count, 0) == bytes.count,
        let kernel = KnownKernel(anchor: anchor, bytes: bytes)
      else { return nil }
      if time(nil) - status.st_mtim.tv_sec > Self.secondsOfDay { futimens(file, nil) }
      return kernel
    }
  }

  // MARK: Writing

  /// Keeps a kernel, in place of what was known of it.
  package func keep(_ kernel: KnownKernel) {
    if withFolder({ _ in true }) == nil { make() }
    withFolder { folder in
      let name = "\(Self.temporaryPrefix)\(getpid())-\(UInt64.random(in: 0 ... .max))"
      let file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
      guard file >= 0 else { return }
      let bytes = kernel.bytes
      let isWhole = write(file, bytes, bytes.count) == bytes.count
      // Torn by a power failure, its checksum shows it: nothing waits for the disk.
      guard close(file) == 0, isWhole,
        renameat(folder, name, folder, kernel.anchor.description) == 0
      else {
        unlinkat(folder, name, 0)
        return
      }
      Self.trim(folder)
    }
  }

  /// Removes what is too much, and what writers that were killed have left.
  private static func trim(_ folder: Int32) {
    var kernels: [(name: String, time: Int)] = []
    for name in names(in: folder) {
      let isTemporary = name.hasPrefix(temporaryPrefix)
      guard isTemporary || digest(name) != nil else { continue }
      var status = stat()
      guard fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
      if !isTemporary {
        kernels.append((name, status.st_mtim.tv_sec))
      } else if time(nil) - status.st_mtim.tv_sec > secondsOfDay {
        unlinkat(folder, name, 0)
      }
    }
    kernels.sort { ($0.time, $0.name) < ($1.time, $1.name) }
    for kernel in kernels.prefix(max(0, kernels.count - maximumCount)) {
      unlinkat(folder, kernel.name, 0)
    }
  }

  // MARK: The folder

  /// Runs `body` with the folder's descriptor, if there is a folder that is this user's alone.
  @discardableResult
  private func withFolder<Result>(_ body: (Int32) -> Result?) -> Result? {
    let folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard folder >= 0 else { return nil }
    defer { close(folder) }
    var status = stat()
    guard fstat(folder, &status) == 0, status.st_uid == geteuid(), status.st_mode & 0o022 == 0
    else { return nil }
    return body(folder)
  }

  /// Makes the folder, and of those above it the three nearest that are missing: a home that is not there, as users
  /// have who never log in, stays so.
  ///
  /// Variables may be another user's: with `sudo -E` root has those of whoever called it. Nothing is made in
  /// another user's folder.
  private func make() {
    var place = ""
    let components = path.split(separator: "/")
    for (index, component) in components.enumerated() {
      var status = stat()
      let isOwn =
        stat(place.isEmpty ? "/" : place, &status) == 0
        && (status.st_uid == geteuid() || status.st_uid == 0)
      place += "/\(component)"
      guard stat(place, &status) != 0 else { continue }
      guard isOwn, index >= components.count - 3, mkdir(place, 0o700) == 0 || errno == EEXIST else {
        return
      }
    }
  }

  private static func names(in folder: Int32) -> [String] {
    // A descriptor of its own, which closes with the listing.
    let copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard copy >= 0 else { return [] }
    guard let listing = fdopendir(copy) else {
      close(copy)
      return []
    }
    defer { closedir(listing) }
    var names: [String] = []
    while names.count < maximumEntryCount, let entry = readdir(listing) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      names.append(name)
    }
    return names
  }

  /// The digest that a file's name is.
  private static func digest(_ name: String) -> PageDigest? {
    let digits = Array(name.utf8)
    guard digits.count == 2 * PageDigest.byteCount else { return nil }
    var words: [UInt64] = []
    for start in stride(from: 0, to: digits.count, by: 16) {
      let part = digits[start..<(start + 16)]
      guard part.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
        let word = UInt64(String(decoding: part, as: UTF8.self), radix: 16)
      else { return nil }
      words.append(word)
    }
    return PageDigest(words: (words[0], words[1], words[2], words[3]))
  }
}
