import CLinux
import Glibc

/// A connection of a VMM, and the message that is on it.
///
/// The message is only looked at, and stays in the socket with the userfaultfd. So whoever has the connection, such as
/// the keeper, has all that a server needs to begin anew.
enum UserfaultPeer {
  enum Message {
    case handshake(UserfaultHandshake, userfaultfd: Int32)
    /// A userfaultfd that cannot be served, and why. Closed, it could let the VM read zeros.
    case unusable(VMCheckpointError, userfaultfd: Int32)
    /// No userfaultfd came, and why.
    case refused(String)
    /// The message has not come yet.
    case nothing
  }

  private static let descriptorCapacity = 8

  /// Looks at the message. Does not wait.
  static func message(on connection: Int32) -> Message {
    // One more than is allowed, to see when there is more.
    var bytes = [UInt8](repeating: 0, count: UserfaultHandshake.maximumByteCount + 1)
    var found = [Int32](repeating: -1, count: descriptorCapacity)
    var foundCount: Int32 = 0
    let count = clinux_receive_with_fds(
      connection,
      &bytes,
      bytes.count,
      1,
      &found,
      Int32(descriptorCapacity),
      &foundCount
    )
    if count < 0, errno == EAGAIN || errno == EINTR { return .nothing }
    var descriptors = Array(found.prefix(Int(foundCount)))
    guard let index = descriptors.firstIndex(where: Userfaultfd.isOne) else {
      for each in descriptors { close(each) }
      return .refused(count > 0 ? "it sent no userfaultfd" : "it sent nothing")
    }
    let userfaultfd = descriptors.remove(at: index)
    for each in descriptors { close(each) }
    _ = fcntl(userfaultfd, F_SETFL, fcntl(userfaultfd, F_GETFL) | O_NONBLOCK)
    do throws(VMCheckpointError) {
      guard count <= UserfaultHandshake.maximumByteCount else {
        throw .invalidData("its message has more than \(UserfaultHandshake.maximumByteCount) bytes")
      }
      let handshake = try UserfaultHandshake(Array(bytes.prefix(count)))
      return .handshake(handshake, userfaultfd: userfaultfd)
    } catch {
      return .unusable(error, userfaultfd: userfaultfd)
    }
  }
}
