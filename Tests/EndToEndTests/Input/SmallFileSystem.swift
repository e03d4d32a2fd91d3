import Glibc
import Testing
import VMCheckpointTestSupport

/// A small file system of its own, unmounted when the object goes away. Needs root and the permission to mount, which
/// some containers lack.
final class SmallFileSystem {
  enum Kind: String, CaseIterable, Sendable {
    /// In memory.
    case tmpfs
    /// In an image that a loop device shows.
    case ext4
  }

  static let canMount: Bool = (try? SmallFileSystem()) != nil

  /// Those that can be had here.
  static let kinds: [Kind] = Kind.allCases.filter { (try? SmallFileSystem($0)) != nil }

  private let directory: TemporaryDirectory
  private let image = try? TemporaryDirectory()
  var path: String { directory.path }

  /// A tmpfs of 4 MiB.
  convenience init() throws {
    try self.init(.tmpfs, megabyteCount: 4)
  }

  /// - Parameter inodeCount: How many files a tmpfs has at most, its own folder included; `nil`: many.
  init(_ kind: Kind, megabyteCount: Int = 64, inodeCount: Int? = nil) throws {
    directory = try TemporaryDirectory()
    let limit = inodeCount.map { ",nr_inodes=\($0)" } ?? ""
    var options = ["-t", "tmpfs", "-o", "size=\(megabyteCount)m\(limit)", "tmpfs"]
    if kind == .ext4 {
      guard let file = image?.file("ext4") else { throw TestSetupError("no folder for an image") }
      try writeFile(file, [])
      truncate(file, off_t(megabyteCount << 20))
      // Without blocks that only root may use, so that no byte is left for tests that root runs.
      let made = try run(["/usr/bin/env", "mkfs.ext4", "-q", "-m", "0", file])
      guard made.succeeded else { throw TestSetupError("cannot make ext4: \(made)") }
      options = ["-o", "loop", file]
    }
    let outcome = try run(["/usr/bin/env", "mount"] + options + [directory.path])
    guard outcome.succeeded else { throw TestSetupError("cannot mount: \(outcome)") }
  }

  deinit {
    _ = try? run(["/usr/bin/env", "umount", "-l", directory.path])
  }

  /// Leaves no space for even one page.
  func fill(_ path: String) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    let block = [UInt8](repeating: 1, count: 4096)
    // Space that was freed a moment ago may come late.
    for _ in 0..<3 {
      while write(descriptor, block, block.count) > 0 {}
      fsync(descriptor)
    }
  }

  var freeByteCount: UInt64 {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return 0 }
    return UInt64(status.f_bfree) * UInt64(status.f_frsize)
  }
}
