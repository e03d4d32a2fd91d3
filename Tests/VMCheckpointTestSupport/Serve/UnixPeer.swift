import CLinux
import Glibc

/// A client of a Unix socket that sends whatever a test wants.
package final class UnixPeer {
  private let descriptor: Int32

  /// - Throws: When nobody listens at `path`.
  package init(_ path: String) throws {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    descriptor = socket(AF_UNIX, type, 0)
    // Once all properties are set, an initializer that throws runs `deinit`, which closes it: closed here as well,
    // the number would by then be another test's file.
    guard withUnixAddress(path, { connect(descriptor, $0, $1) }) == 0 else {
      throw TestSetupError("nobody listens at \(path)")
    }
  }

  deinit { close(descriptor) }

  /// Sends text with a descriptor; -1: none.
  package func send(_ text: String, _ attachment: Int32 = -1) {
    let bytes = Array(text.utf8)
    _ = clinux_send_with_fd(descriptor, bytes, bytes.count, attachment)
  }

  /// A userfaultfd that nothing is registered with.
  package static func userfaultfd() -> Int32 {
    let made = clinux_userfaultfd()
    _ = clinux_uffd_begin(made, 0)
    return made
  }
}
