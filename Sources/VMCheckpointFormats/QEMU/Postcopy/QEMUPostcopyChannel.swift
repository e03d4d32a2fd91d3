import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// Both ways to a QEMU that is migrated to: a socket, or the two pipes that QEMU's `exec:` makes of a program's
/// standard input and output. Neither way ever waits for the other.
final class QEMUPostcopyChannel {
  /// More on its way would have to be read before the answer to a request.
  private static let sendBufferByteCount: Int32 = 64 << 10
  private static let readByteCount = 64 << 10
  /// What a pipe takes without waiting once `poll` says that there is room.
  private static let roomByteCount = 4096

  private let input: Int32
  private let output: Int32
  private let isSocket: Bool
  /// Whether the pipe was opened once more, so that writing never waits. Its first opening may be shared.
  private let isReopened: Bool
  private let ownsSocket: Bool
  private var pending: [UInt8] = []
  private var start = 0
  private var block = [UInt8](repeating: 0, count: readByteCount)
  /// Whether the other side has gone.
  private(set) var isClosed = false

  /// Takes over a socket.
  init(socket: Int32) {
    (input, output) = (socket, socket)
    (isSocket, isReopened, ownsSocket) = (true, false, true)
    Self.narrow(socket)
  }

  /// Uses what a program was started with.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when that is not what QEMU gives.
  init(input: Int32, output: Int32) throws(VMCheckpointError) {
    guard let kind = Self.kind(output), let inputKind = Self.kind(input), kind == inputKind else {
      throw VMCheckpointError(
        .invalidArgument,
        "standard input and output do not lead to QEMU",
        hint: "start QEMU with: -incoming \"exec:vmckpt serve REF --qemu\", or give --connect"
      )
    }
    isSocket = kind == S_IFSOCK
    ownsSocket = false
    self.input = input
    if isSocket {
      self.output = output
      isReopened = false
      Self.narrow(output)
    } else {
      // Not possible without /proc, or for another user's pipe.
      let opened = open("/proc/self/fd/\(output)", O_WRONLY | O_NONBLOCK | O_CLOEXEC)
      self.output = opened < 0 ? output : opened
      isReopened = opened >= 0
    }
  }

  deinit {
    if ownsSocket || isReopened { close(output) }
  }

  private static func kind(_ descriptor: Int32) -> mode_t? {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return nil }
    let kind = status.st_mode & S_IFMT
    return kind == S_IFIFO || kind == S_IFSOCK ? kind : nil
  }

  private static func narrow(_ socket: Int32) {
    var byteCount = sendBufferByteCount
    setsockopt(
      socket,
      SOL_SOCKET,
      SO_SNDBUF,
      &byteCount,
      socklen_t(MemoryLayout.size(ofValue: byteCount))
    )
  }

  /// The process at the other end of a socket, if it is known.
  var peerProcess: Int32? {
    guard isSocket else { return nil }
    let process = clinux_peer_pid(input)
    return process > 0 ? process : nil
  }

  /// The socket, for a process that goes on with it.
  var descriptor: Int32 { output }

  /// Whether everything that was appended was sent.
  var isIdle: Bool { pending.isEmpty }

  /// Puts something at the end of what is sent.
  func append(_ body: (inout [UInt8]) -> Void) { body(&pending) }

  /// Waits until something came, or, where something is left to send, until there is room; or until somebody rings.
  func wait(milliseconds: Int32, bell: Doorbell? = nil) {
    guard !isClosed else { return }
    var requests = [
      pollfd(fd: input, events: Int16(POLLIN), revents: 0),
      pollfd(fd: isIdle ? -1 : output, events: Int16(POLLOUT), revents: 0),
      pollfd(fd: bell?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
    ]
    if poll(&requests, nfds_t(requests.count), milliseconds) > 0, requests[2].revents != 0 {
      bell?.answer()
    }
  }

  /// Sends as much as there is room for.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `inputOutput`.
  func send() throws(VMCheckpointError) {
    while start < pending.count, !isClosed {
      let result = sendOnce()
      if result > 0 {
        start += result
        continue
      }
      switch errno {
      case EAGAIN, EINTR: return
      case EPIPE, ECONNRESET: isClosed = true
      case let code:
        throw VMCheckpointError(.inputOutput, "cannot write to QEMU: \(Errno(rawValue: code))")
      }
    }
    pending.removeAll(keepingCapacity: pending.capacity <= 1 << 20)
    start = 0
  }

  private func sendOnce() -> Int {
    pending.withUnsafeBytes { bytes in
      let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
      if isSocket {
        return Glibc.send(
          output,
          rest.baseAddress,
          rest.count,
          Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
        )
      }
      var byteCount = rest.count
      if !isReopened {
        var request = pollfd(fd: output, events: Int16(POLLOUT), revents: 0)
        guard poll(&request, 1, 0) > 0 else {
          errno = EAGAIN
          return -1
        }
        byteCount = min(byteCount, Self.roomByteCount)
      }
      return BrokenPipe.withoutSignal { write(output, rest.baseAddress, byteCount) }
    }
  }

  /// Gives what came to `body`, up to the end, of a channel that is closed.
  ///
  /// - Returns: Whether that was all: the other side has said nothing else.
  func receiveRest(_ body: (ArraySlice<UInt8>) -> Void) -> Bool {
    while true {
      var request = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
      guard poll(&request, 1, 0) > 0 else { return false }
      let count = read(input, &block, block.count)
      guard count > 0 else { return count == 0 }
      body(block[..<count])
    }
  }

  /// Gives what came to `body`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `inputOutput`.
  func receive(_ body: (ArraySlice<UInt8>) -> Void) throws(VMCheckpointError) {
    var request = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
    guard poll(&request, 1, 0) > 0 else { return }
    let count = read(input, &block, block.count)
    if count > 0 {
      body(block[..<count])
    } else if count == 0 || errno == ECONNRESET {
      isClosed = true
    } else if errno != EINTR, errno != EAGAIN {
      throw VMCheckpointError(.inputOutput, "cannot read from QEMU: \(Errno(rawValue: errno))")
    }
  }
}
