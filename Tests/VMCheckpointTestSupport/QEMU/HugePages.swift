import Foundation
import Glibc

/// The kernel's huge pages of 2 MiB. Most machines have set none aside; root may allow some for as long as the tests run.
package enum HugePages {
  package static let byteCount = 2 << 20
  /// What the tests need at once.
  private static let count = 48
  private static let limitPath = "/proc/sys/vm/nr_overcommit_hugepages"

  /// Whether the tests can have them: ``count`` of them were mapped.
  package static let areAvailable: Bool = {
    if canMap() { return true }
    guard geteuid() == 0, let text = try? readFile(procFile: limitPath),
      let limit = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)),
      writeLimit(limit + count)
    else { return false }
    previousLimit = limit
    atexit { _ = HugePages.writeLimit(HugePages.previousLimit) }
    return canMap()
  }()

  /// Set once, before it is read at the process's end.
  nonisolated(unsafe) private static var previousLimit = 0

  private static func writeLimit(_ limit: Int) -> Bool {
    let descriptor = open(limitPath, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    let text = Array("\(limit)\n".utf8)
    return write(descriptor, text, text.count) == text.count
  }

  /// A mapping has its pages reserved, or is refused.
  private static func canMap() -> Bool {
    // Linux: MAP_HUGETLB, with pages of the default size.
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | 0x40000
    let place = mmap(nil, count * byteCount, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let place, place != MAP_FAILED else { return false }
    munmap(place, count * byteCount)
    return hasDefaultSize
  }

  private static var hasDefaultSize: Bool {
    let text = (try? readFile(procFile: "/proc/meminfo")) ?? ""
    return text.split(separator: "\n").contains {
      $0.hasPrefix("Hugepagesize:") && $0.contains(" 2048 kB")
    }
  }

  /// A file system of huge pages, which goes with the object.
  package final class Folder {
    package let path: String

    /// - Throws: ``TestSetupError`` when it cannot be mounted.
    package init(in directory: TemporaryDirectory) throws {
      path = try directory.subdirectory("huge-\(UUID().uuidString.prefix(8))")
      guard mount("none", path, "hugetlbfs", 0, "pagesize=2M,mode=700") == 0 else {
        throw TestSetupError("cannot mount hugetlbfs: \(String(cString: strerror(errno)))")
      }
    }

    deinit { umount2(path, Int32(MNT_DETACH)) }
  }
}
