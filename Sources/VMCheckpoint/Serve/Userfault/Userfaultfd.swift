import CLinux
import Glibc

/// The ioctls of a userfaultfd, with what their errors mean for a page server.
struct Userfaultfd {
  /// How it went to put pages in place.
  enum Outcome {
    /// So many bytes are in place; fewer than asked for when something was in the way behind them.
    case done(byteCount: UInt64)
    /// There is a page already at the first address.
    case present
    /// An event has to be read before.
    case eventWaits
    /// The mapping at the address is gone, or not watched any more.
    case notMapped
    /// The VM is gone.
    case ended
    /// The kernel lacks the call, or refuses it for this kind of memory.
    case unsupported
    /// Memory ran out, or another reason to try again.
    case failed(Int32)
  }

  let descriptor: Int32

  /// Whether `descriptor` is a userfaultfd: a stranger may have sent anything.
  static func isOne(_ descriptor: Int32) -> Bool {
    var link = [CChar](repeating: 0, count: 64)
    let count = readlink("/proc/self/fd/\(descriptor)", &link, link.count - 1)
    guard count > 0 else { return false }
    return String(decoding: link[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      == "anon_inode:[userfaultfd]"
  }

  func copy(_ pages: UnsafeRawBufferPointer, to address: UInt64) -> Outcome {
    var done: Int64 = 0
    let result = clinux_uffd_copy(
      descriptor,
      address,
      pages.baseAddress,
      UInt64(pages.count),
      &done
    )
    return outcome(result, done, UInt64(pages.count))
  }

  func zero(_ address: UInt64, _ byteCount: UInt64) -> Outcome {
    var done: Int64 = 0
    return outcome(clinux_uffd_zero(descriptor, address, byteCount, &done), done, byteCount)
  }

  func poison(_ address: UInt64, _ byteCount: UInt64) -> Outcome {
    var done: Int64 = 0
    return outcome(clinux_uffd_poison(descriptor, address, byteCount, &done), done, byteCount)
  }

  func wake(_ address: UInt64, _ byteCount: UInt64) {
    _ = clinux_uffd_wake(descriptor, address, byteCount)
  }

  private func outcome(_ result: Int32, _ done: Int64, _ byteCount: UInt64) -> Outcome {
    if result == 0 { return .done(byteCount: byteCount) }
    let code = errno
    if done > 0 { return .done(byteCount: UInt64(done)) }
    switch code {
    case EEXIST: return .present
    case EAGAIN: return .eventWaits
    case ENOENT, EFAULT: return .notMapped
    case ESRCH: return .ended
    case EINVAL, ENOTTY, EOPNOTSUPP: return .unsupported
    default: return .failed(code)
    }
  }
}
