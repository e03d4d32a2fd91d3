import CLinux
import Foundation
import Glibc
import SystemPackage
import VMCheckpoint

/// A client of QEMU's monitor protocol: JSON objects, one a line, over a Unix socket.
final class QMPClient {
  /// Replies are small; the largest, `info mtree -f`, has some KiB for each of a machine's CPUs.
  private static let maximumLineByteCount = 16 << 20
  private static let pollMilliseconds: Int32 = 20
  private static let connectSeconds = 10
  /// QEMU answers at once, unless its main loop is busy.
  static let timeoutSeconds = 30.0

  let descriptor: Int32
  private let cancellation: CancellationFlag
  /// For messages.
  let name: String
  private var pending: [UInt8] = []
  private var hasReceived = false
  private var lastID = 0
  private let idPrefix = "vmckpt-\(UniqueID.make().prefix(8))-"
  /// Whether the connection is gone, so that trying again is useless.
  private(set) var isBroken = false
  /// Whether ``run(_:_:fileDescriptor:ignoresCancellation:outOfBand:timeoutSeconds:)`` can be asked to go out of band.
  private var isOutOfBand = false
  /// Called before a command is sent, while its reply is awaited, and before anything is read, unless that ignores
  /// cancellation; what it throws ends the command. So what another process is told, which has taken over, is not
  /// read here.
  var check: (() throws(VMCheckpointError) -> Void)?
  /// When QEMU said that the guest was stopped, and went on, by its clock.
  private(set) var stoppedAtSeconds: Double?
  private(set) var resumedAtSeconds: Double?
  /// When that was read here that the guest was stopped, by ``MonotonicClock``.
  private(set) var stopSeenSeconds: Double?

  /// Connects and negotiates.
  ///
  /// - Parameter outOfBand: Whether commands may be run that QEMU obeys while its main loop waits for something.
  /// - Throws: ``VMCheckpointError``: `notFound`, `permissionDenied`, or `unavailable` when nobody
  ///   answers, which is so as well while another client is connected.
  init(
    path: String,
    outOfBand: Bool = false,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    self.cancellation = cancellation
    name = "QEMU's monitor \(quotedName(path))"
    descriptor = try Self.connect(path, name: name)
    let greeting = try line(timeoutSeconds: 5)
    guard greeting?["QMP"] != nil else {
      throw hasReceived
        ? VMCheckpointError(
          .unavailable,
          "\(name) speaks another protocol than QMP",
          hint: "give the socket of QEMU's option -qmp, not that of -monitor or of a guest agent"
        )
        : VMCheckpointError(
          .unavailable,
          "\(name) does not answer",
          hint: """
            it serves one client at a time: give QEMU a second one with another -qmp unix:…; a \
            guest agent or another VMM does not speak QMP
            """
        )
    }
    let offered = (greeting?["QMP"] as? [String: Any])?["capabilities"] as? [String] ?? []
    isOutOfBand = outOfBand && offered.contains("oob")
    try run("qmp_capabilities", isOutOfBand ? ["enable": ["oob"]] : [:])
  }

  /// Takes over a connection that another process has negotiated.
  init(descriptor: Int32) {
    self.descriptor = descriptor
    cancellation = CancellationFlag()
    name = "QEMU's monitor"
  }

  deinit { close(descriptor) }

  /// Connects to a Unix socket.
  ///
  /// - Parameter name: What messages call it.
  static func connect(_ path: String, name: String) throws(VMCheckpointError) -> Int32 {
    guard !path.hasPrefix("tcp:"), !path.hasPrefix("telnet:") else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(name) is not a Unix socket, and others are not used: anybody on this machine could have made them",
        hint: "give QEMU a second one, with -qmp unix:PATH,server=on,wait=off, and save qemu:PATH"
      )
    }
    try ResolvedPath.checkLinks(of: path)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(name): the path of a socket has at most 107 bytes",
        hint: "change to its directory and give a relative path"
      )
    }
    Swift.withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = socket(AF_UNIX, type, 0)
    // Where others wait to be taken as well, this would wait with them without end.
    setSendTimeout(of: descriptor, seconds: connectSeconds)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard descriptor >= 0, result == 0 else {
      let error = Errno(rawValue: errno)
      if descriptor >= 0 { close(descriptor) }
      var status = stat()
      // Linux refuses connections to files of other kinds with the same error as to a dead socket.
      if error == .connectionRefused, stat(path, &status) == 0,
        status.st_mode & S_IFMT != S_IFSOCK
      {
        throw VMCheckpointError(
          .invalidArgument,
          "\(name) is not a socket",
          hint: "start QEMU with -qmp unix:PATH,server=on,wait=off, and give PATH"
        )
      }
      switch error {
      case .noSuchFileOrDirectory, .notDirectory:
        throw VMCheckpointError(
          .notFound,
          "\(name) does not exist",
          hint: "start QEMU with -qmp unix:PATH,server=on,wait=off"
        )
      case .permissionDenied, .notPermitted:
        throw VMCheckpointError(.permissionDenied, "no permission for \(name)")
      case .wouldBlock:
        throw VMCheckpointError(
          .unavailable,
          "\(name) takes no other client",
          hint: "it serves one client at a time: give QEMU a second one with another -qmp unix:…"
        )
      default:
        throw VMCheckpointError(
          .unavailable,
          "cannot connect to \(name): \(error)",
          hint: error == .connectionRefused
            ? "the QEMU that made the socket has ended; start it again" : nil
        ).orOutOfResources(error)
      }
    }
    setSendTimeout(of: descriptor, seconds: 0)
    return descriptor
  }

  /// - Parameter seconds: 0: none.
  private static func setSendTimeout(of descriptor: Int32, seconds: Int) {
    var time = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(
      descriptor,
      SOL_SOCKET,
      SO_SNDTIMEO,
      &time,
      socklen_t(MemoryLayout<timeval>.size)
    )
  }

  /// The process that listens, if it is known.
  var peerProcess: Int32? {
    let pid = clinux_peer_pid(descriptor)
    return pid > 0 ? pid : nil
  }

  /// Runs a command and returns its result.
  ///
  /// - Parameters:
  ///   - fileDescriptor: Handed over with the command.
  ///   - ignoresCancellation: For commands that put the VM back as it was.
  ///   - outOfBand: Whether QEMU is to run it beside its main loop, where that was negotiated.
  ///   - timeoutSeconds: How long to wait for the reply.
  /// - Throws: ``VMCheckpointError``: `unavailable` with QEMU's words when it refuses the command.
  @discardableResult
  func run(
    _ command: String,
    _ arguments: [String: Any] = [:],
    fileDescriptor: Int32 = -1,
    ignoresCancellation: Bool = false,
    outOfBand: Bool = false,
    timeoutSeconds: Double = QMPClient.timeoutSeconds
  ) throws(VMCheckpointError) -> Any {
    if !ignoresCancellation { try check?() }
    lastID += 1
    let id = "\(idPrefix)\(lastID)"
    let verb = outOfBand && isOutOfBand ? "exec-oob" : "execute"
    let message: [String: Any] = [verb: command, "arguments": arguments, "id": id]
    guard var data = try? JSONSerialization.data(withJSONObject: message) else {
      throw VMCheckpointError(.invalidArgument, "\(command) cannot be put into words")
    }
    data.append(10)
    try send(Array(data), fileDescriptor: fileDescriptor)
    let deadline = MonotonicClock.nowSeconds + timeoutSeconds
    while MonotonicClock.nowSeconds < deadline {
      if !ignoresCancellation {
        try cancellation.check()
        try check?()
      }
      guard
        let reply = try line(
          timeoutSeconds: 0.1,
          ignoresCancellation: true,
          checks: !ignoresCancellation
        )
      else { continue }
      note(reply)
      guard reply["id"] as? String == id else { continue }
      if let result = reply["return"] { return result }
      let error = (reply["error"] as? [String: Any])?["desc"] as? String ?? "no reason given"
      throw VMCheckpointError(
        .unavailable,
        "QEMU refuses \(command): \(Self.oneLine(error))",
        // QEMU's words for what a device or a mounted share keeps from being migrated.
        hint: error.contains("non-migratable") || error.contains("igration is disabled")
          ? "nothing can save the VM's devices while it has that: take it out first, inside the guest or with device_del"
          : nil
      )
    }
    throw VMCheckpointError(.unavailable, "\(name) gave no answer to \(command)")
  }

  /// The same, for a command whose result is an object.
  func object(
    _ command: String,
    _ arguments: [String: Any] = [:],
    ignoresCancellation: Bool = false
  )
    throws(VMCheckpointError) -> [String: Any]
  {
    try run(command, arguments, ignoresCancellation: ignoresCancellation) as? [String: Any] ?? [:]
  }

  /// Waits until an event or a reply is there, but not for long, so that events are seen early.
  ///
  /// - Parameters:
  ///   - patienceSeconds: How long; less while a guest is stopped and waits.
  ///   - ignoresCancellation: As of a command.
  func takeEvents(
    patienceSeconds: Double = 0.01,
    ignoresCancellation: Bool = false
  ) throws(VMCheckpointError) {
    let deadline = MonotonicClock.nowSeconds + 0.5
    while MonotonicClock.nowSeconds < deadline,
      let message = try line(
        timeoutSeconds: patienceSeconds,
        ignoresCancellation: true,
        checks: !ignoresCancellation
      )
    {
      note(message)
    }
  }

  /// Forgets what others did with the VM: what comes from now on is this save's.
  func forgetStops() { (stoppedAtSeconds, resumedAtSeconds, stopSeenSeconds) = (nil, nil, nil) }

  private func note(_ message: [String: Any]) {
    guard let event = message["event"] as? String,
      let time = message["timestamp"] as? [String: Any],
      let seconds = time["seconds"] as? Double,
      let microseconds = time["microseconds"] as? Double
    else { return }
    let at = seconds + microseconds / 1e6
    if event == "STOP" {
      stoppedAtSeconds = at
      stopSeenSeconds = MonotonicClock.nowSeconds
    }
    if event == "RESUME" { resumedAtSeconds = at }
  }

  static func oneLine(_ text: String) -> String {
    String(quotedName(String(text.prefix(500))).dropFirst().dropLast())
  }

  private func send(_ bytes: [UInt8], fileDescriptor: Int32) throws(VMCheckpointError) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        clinux_send_with_fd(
          descriptor,
          $0.baseAddress! + done,
          bytes.count - done,
          done == 0 ? fileDescriptor : -1
        )
      }
      if count > 0 {
        done += count
      } else if errno != EINTR {
        throw broken("the connection to \(name) broke: \(Errno(rawValue: errno))")
      }
    }
  }

  /// Ends a connection that is of no use any more, also for other processes that have it.
  func abandon() {
    isBroken = true
    shutdown(descriptor, Int32(SHUT_RDWR))
  }

  private func broken(_ message: String) -> VMCheckpointError {
    isBroken = true
    return VMCheckpointError(.unavailable, message, hint: "see whether QEMU has ended")
  }

  /// The next message; `nil` when none came in time.
  private func line(
    timeoutSeconds: Double,
    ignoresCancellation: Bool = false,
    checks: Bool = false
  ) throws(VMCheckpointError) -> [String: Any]? {
    let deadline = MonotonicClock.nowSeconds + timeoutSeconds
    while true {
      if let end = pending.firstIndex(of: 10) {
        let text = Data(pending[..<end])
        pending.removeSubrange(...end)
        // What cannot be read is the rest of a line that another process began to read.
        if let message = try? JSONSerialization.jsonObject(with: text) as? [String: Any] {
          return message
        }
        continue
      }
      if !ignoresCancellation { try cancellation.check() }
      // Also while bytes keep coming: they may never make up a message.
      let leftSeconds = deadline - MonotonicClock.nowSeconds
      guard leftSeconds >= 0 else { return nil }
      var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      let milliseconds = min(Self.pollMilliseconds, Int32(min(leftSeconds, 1) * 1000) + 1)
      guard poll(&request, 1, milliseconds) > 0 else { continue }
      if checks { try check?() }
      var block = [UInt8](repeating: 0, count: 64 << 10)
      let count = recv(descriptor, &block, block.count, Int32(MSG_DONTWAIT))
      if count > 0 {
        hasReceived = true
        pending += block[..<count]
        guard pending.count <= Self.maximumLineByteCount else {
          throw VMCheckpointError(.unavailable, "\(name) sends lines that are too long")
        }
      } else if count == 0 {
        throw broken("\(name) closed the connection")
      } else if errno != EINTR && errno != EAGAIN {
        throw broken("the connection to \(name) broke: \(Errno(rawValue: errno))")
      }
    }
  }
}
