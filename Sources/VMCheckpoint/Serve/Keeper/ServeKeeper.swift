import Glibc

/// A process that starts a page server again when that was killed.
///
/// It reads no page and no store. It has what a server would need to go on: the socket, the lease's lock, and of each
/// VM the connection, in which the VMM's message with its userfaultfd still is, and the memory that says
/// which pages are taken. So the userfaultfd of a VM stays open, and its faults wait, whatever becomes of the server.
/// When the keeper itself is killed, the server starts another. Only who kills both at once leaves VMs behind.
public enum ServeKeeper {
  /// Tells a server where the keeper is that has started it.
  public static let variable = "VMCKPT_SERVE_KEEPER"

  /// A server that ends by itself again and again is started ever more slowly.
  private static let longestPauseMilliseconds: UInt32 = 5000
  private static let shortLifeSeconds = 2.0

  fileprivate struct Item {
    var message: KeeperMessage
    var descriptor: Int32
  }

  /// Does a keeper's work in a process that was started for it, until the server ends as it should, or there is no
  /// VM to keep.
  ///
  /// - Parameter command: The server's program and arguments.
  public static func run(_ command: [String]) {
    // Only the server asks the keeper to end.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT] { signal(number, SIG_IGN) }
    var socket = KeeperSocket(descriptor: KeeperSocket.inherited)
    _ = fcntl(socket.descriptor, F_SETFD, FD_CLOEXEC)
    var items: [Item] = []
    var server: (process: pid_t, startSeconds: Double)?
    var failureCount: UInt32 = 0
    while true {
      switch socket.receive() {
      case .nothing: socket.wait(milliseconds: -1)
      case .message(let message, let descriptor):
        if message.kind == .done { return }
        note(message, descriptor, &items)
      case .end:
        // A VM may have connected to a server that was killed before it had accepted the connection.
        guard
          items.contains(where: {
            [.connection, .device].contains($0.message.kind) || $0.hasWaitingVM
          })
        else { return }
        close(socket.descriptor)
        var status: Int32 = 0
        if let server {
          waitpid(server.process, &status, 0)
          let isShort = MonotonicClock.nowSeconds - server.startSeconds < shortLifeSeconds
          // A kill from outside is no reason to wait.
          failureCount = isShort && status & 0x7f != SIGKILL ? failureCount + 1 : 0
        }
        if failureCount > 0 {
          usleep(min(longestPauseMilliseconds, 50 << min(failureCount, 8)) * 1000)
        }
        (socket, server) = start(command, items)
      }
    }
  }

  private static func note(_ message: KeeperMessage, _ descriptor: Int32?, _ items: inout [Item]) {
    if message.kind == .ended {
      for item in items where item.isOf(vm: message.number) { close(item.descriptor) }
      items.removeAll { $0.isOf(vm: message.number) }
      return
    }
    items.append(Item(message: message, descriptor: descriptor ?? -1))
  }

  /// Starts a server and hands it all items. Tries until that succeeds: VMs wait.
  private static func start(
    _ command: [String],
    _ items: [Item]
  ) -> (KeeperSocket, (process: pid_t, startSeconds: Double)?) {
    while true {
      if let (own, others) = try? KeeperSocket.pair() {
        defer { close(others.descriptor) }
        let process = try? others.start(
          command,
          variable: "\(variable)=\(KeeperSocket.inherited)",
          isDetached: false
        )
        if let process {
          // What cannot be sent to one that has ended already comes back as the socket's end.
          for item in items { own.send(item.message, item.descriptor) }
          own.send(KeeperMessage(.ready))
          return (own, (process, MonotonicClock.nowSeconds))
        }
        close(own.descriptor)
      }
      usleep(100_000)
    }
  }
}

extension ServeKeeper.Item {
  /// Whether this is the socket, and a VM has connected there that nobody has accepted.
  fileprivate var hasWaitingVM: Bool {
    guard message.kind == .listener else { return false }
    var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) > 0 && request.revents & Int16(POLLIN) != 0
  }

  fileprivate func isOf(vm number: UInt64) -> Bool {
    message.number == number && [.connection, .servedPages].contains(message.kind)
  }
}
