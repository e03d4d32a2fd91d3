import Glibc
import SystemPackage

/// A server's side of its keeper: what the keeper has, so that another one can be given it when that one is killed.
final class KeeperLink {
  /// A VM of a server that is gone.
  struct VM {
    var id: UInt64
    var connection: Int32
    var servedPages: Int32?
  }

  /// What the keeper of a server that is gone hands over.
  struct Legacy {
    var snapshot: String
    var listener: Int32
    var lease: LeaseHold?
    var vms: [VM] = []
  }

  private static let patienceMilliseconds: Int32 = 10_000

  private let command: [String]?
  /// Whether the keeper, and what it starts, prints nothing.
  private let isSilent: Bool
  private var socket: KeeperSocket?
  private var process: pid_t?
  private var items: [(message: KeeperMessage, descriptor: Int32)] = []
  private let warn: (String) -> Void

  /// - Parameter command: Starts a keeper; `nil`: there is none.
  init(_ command: [String]?, isSilent: Bool = false, warn: @escaping (String) -> Void) {
    self.command = command
    self.isSilent = isSilent
    self.warn = warn
  }

  /// To be polled; -1 without a keeper. There is something to read when the keeper is gone.
  var descriptor: Int32 { socket?.descriptor ?? -1 }

  /// Starts a keeper.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` or `outOfResources`.
  func start() throws(VMCheckpointError) {
    guard let command else { return }
    let (own, others) = try KeeperSocket.pair()
    defer { close(others.descriptor) }
    do throws(VMCheckpointError) {
      process = try others.start(command, isDetached: true, isSilent: isSilent)
    } catch {
      close(own.descriptor)
      throw error
    }
    socket = own
    for item in items { own.send(item.message, item.descriptor) }
  }

  /// Takes what the keeper has that has started this process.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when it does not send it.
  func adopt(_ descriptor: Int32) throws(VMCheckpointError) -> Legacy {
    var (snapshot, listener): (String?, Int32?) = (nil, nil)
    var lease: LeaseHold?
    var vms: [VM] = []
    for (message, attachment) in adoptItems(descriptor) {
      switch message.kind {
      case .snapshot: snapshot = message.text
      case .listener: listener = attachment
      case .lease:
        if let attachment {
          lease = LeaseHold(
            id: Int64(truncatingIfNeeded: message.number),
            descriptor: .init(rawValue: attachment)
          )
        }
      case .connection:
        if let attachment { vms.append(VM(id: message.number, connection: attachment)) }
      case .servedPages:
        let index = vms.firstIndex { $0.id == message.number }
        if let index { vms[index].servedPages = attachment }
      case .ended: vms.removeAll { $0.id == message.number }
      case .ready, .done, .device, .memory, .locks: break
      }
    }
    guard let snapshot, let listener else {
      throw VMCheckpointError(.unavailable, "the keeper of a page server has sent no socket")
    }
    return Legacy(snapshot: snapshot, listener: listener, lease: lease, vms: vms)
  }

  /// Takes all messages of the keeper that has started this process, and keeps them for the next keeper.
  func adoptItems(_ descriptor: Int32) -> [(message: KeeperMessage, attachment: Int32?)] {
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    let socket = KeeperSocket(descriptor: descriptor)
    self.socket = socket
    var found: [(KeeperMessage, Int32?)] = []
    while true {
      switch socket.receive() {
      case .nothing: socket.wait(milliseconds: Self.patienceMilliseconds)
      case .end: return found
      case .message(let message, let attachment):
        if message.kind == .ready || message.kind == .done { return found }
        if message.kind != .ended { items.append((message, attachment ?? -1)) }
        found.append((message, attachment))
      }
    }
  }

  /// Leaves all to the keeper, which starts a server then.
  func leave() {
    if let socket { close(socket.descriptor) }
    socket = nil
  }

  /// Gives the keeper something that a server after this one needs.
  func send(_ message: KeeperMessage, _ descriptor: Int32 = -1) {
    if message.kind == .ended {
      items.removeAll {
        $0.message.number == message.number
          && [.connection, .servedPages].contains($0.message.kind)
      }
    } else if message.kind != .done {
      items.append((message, descriptor))
    }
    socket?.send(message, descriptor)
  }

  /// Starts another keeper when this one is gone.
  func check() {
    guard let socket, command != nil else { return }
    guard case .end = socket.receive() else { return }
    close(socket.descriptor)
    self.socket = nil
    if let process {
      var status: Int32 = 0
      waitpid(process, &status, 0)
    }
    process = nil
    do throws(VMCheckpointError) {
      try start()
    } catch {
      warn("\(error.message); VMs stop when this process is killed")
    }
  }

  /// Says that nothing is to be kept.
  func dismiss() {
    guard let socket else { return }
    socket.send(KeeperMessage(.done))
    close(socket.descriptor)
    self.socket = nil
    if let process {
      var status: Int32 = 0
      waitpid(process, &status, 0)
    }
  }
}
