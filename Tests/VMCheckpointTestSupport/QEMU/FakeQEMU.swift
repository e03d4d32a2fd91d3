import Foundation
import Synchronization

/// A socket that answers as QEMU's monitor does, with no VM behind it. What it says can be made up.
///
/// A migration sends ``stream`` at once. The socket is gone when the object is.
package final class FakeQEMU: Sendable {
  /// What a command gets in place of the usual answer.
  package enum Answer: Sendable {
    /// The JSON of the result.
    case result(String)
    /// The command is refused, with these words.
    case refusal(String)
    /// These bytes, again and again, until the client is gone.
    case flood([UInt8])
  }

  package typealias Answering = @Sendable (String, [String: String]) -> Answer?

  package let path: String
  private let listener: Int32
  private let conversation: Conversation

  /// - Parameters:
  ///   - stream: What a migration sends.
  ///   - stopTime: The JSON of the moment at which the guest stops for the migration.
  ///   - resumeTime: The JSON of the moment at which it goes on.
  ///   - answer: Is asked about each command by its name and those of its arguments that are texts, and
  ///     about the greeting by the name "greeting"; `nil`: what QEMU would say.
  package init(
    in directory: TemporaryDirectory,
    stream: [UInt8] = FakeQEMU.stream(),
    stopTime: String = #"{"seconds": 10, "microseconds": 0}"#,
    resumeTime: String = #"{"seconds": 10, "microseconds": 5000}"#,
    answer: @escaping Answering = { _, _ in nil }
  ) throws {
    path = directory.file("qmp")
    let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let result = withUnixAddress(path) { bind(listener, $0, $1) }
    guard result == 0, listen(listener, 4) == 0 else { throw TestSetupError("cannot listen") }
    self.listener = listener
    conversation = Conversation(
      stream: stream,
      stopTime: stopTime,
      resumeTime: resumeTime,
      answer: answer
    )
    let thread = Thread { [conversation] in conversation.serve(listener) }
    thread.start()
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
  }

  /// The commands so far, in order.
  package var commands: [String] { conversation.commands.withLock { $0 } }

  /// A migration stream of a small machine with `pageCount` pages of RAM.
  package static func stream(pageCount: Int = 4) -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header()
    stream.ramStart([("pc.ram", pageCount)])
    stream.ramPart(2)
    for index in 0..<pageCount {
      stream.page("pc.ram", index, (0..<4096).map { UInt8(truncatingIfNeeded: $0 + index) })
    }
    stream.ramEnd()
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }
}

/// What a fake QEMU has heard, and what it says next.
private final class Conversation: Sendable {
  let commands = Mutex<[String]>([])
  private let stream: [UInt8]
  private let stopTime: String
  private let resumeTime: String
  private let answer: FakeQEMU.Answering

  init(
    stream: [UInt8],
    stopTime: String,
    resumeTime: String,
    answer: @escaping FakeQEMU.Answering
  ) {
    self.stream = stream
    self.stopTime = stopTime
    self.resumeTime = resumeTime
    self.answer = answer
  }

  /// Serves one client after the other until the listener is shut down.
  func serve(_ listener: Int32) {
    while true {
      let client = accept(listener, nil, nil)
      guard client >= 0 else { break }
      _ = fcntl(client, F_SETFD, FD_CLOEXEC)
      serve(client: client)
      close(client)
    }
    close(listener)
  }

  private func serve(client: Int32) {
    var pending: [UInt8] = []
    var pipe: Int32 = -1
    defer { if pipe >= 0 { close(pipe) } }
    var hasMigrated = false
    let greeting = #"{"QMP": {"version": {}, "capabilities": []}}"# + "\n"
    guard send(client, answer("greeting", [:]), or: Array(greeting.utf8)) else { return }
    while let (line, descriptor) = Self.receive(client, &pending) {
      if let descriptor { pipe = descriptor }
      guard let message = try? JSONSerialization.jsonObject(with: line) as? [String: Any],
        let name = message["execute"] as? String, let id = message["id"] as? String
      else { continue }
      commands.withLock { $0.append(name) }
      var events: [String] = []
      var result: String?
      switch name {
      case "qmp_capabilities", "getfd", "closefd", "stop", "migrate-set-capabilities": result = "{}"
      case "query-version":
        result = #"{"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}"#
      case "query-status": result = #"{"status": "running"}"#
      case "query-kvm": result = #"{"enabled": true}"#
      case "query-migrate-capabilities": result = "[]"
      case "query-migrate-parameters", "migrate-set-parameters", "migrate_cancel": result = "{}"
      case "query-migrate": result = #"{"status": "\#(hasMigrated ? "completed" : "none")"}"#
      case "migrate":
        result = "{}"
        hasMigrated = true
        events = [#"{"event": "STOP", "timestamp": \#(stopTime)}"#]
      case "cont":
        result = "{}"
        events = [#"{"event": "RESUME", "timestamp": \#(resumeTime)}"#]
      default: result = nil
      }
      let body =
        result.map { #""return": \#($0)"# }
        ?? #""error": {"class": "CommandNotFound", "desc": "not here"}"#
      let lines = events + [#"{\#(body), "id": "\#(id)"}"#]
      var bytes = Array(lines.map { $0 + "\n" }.joined().utf8)
      let arguments = message["arguments"] as? [String: Any] ?? [:]
      let answer = answer(name, arguments.compactMapValues { $0 as? String })
      if case .result(let json) = answer {
        bytes = Array(#"{"return": \#(json), "id": "\#(id)"}\#n"#.utf8)
      }
      if case .refusal(let words) = answer {
        let error = #"{"class": "GenericError", "desc": "\#(words)"}"#
        bytes = Array(#"{"error": \#(error), "id": "\#(id)"}\#n"#.utf8)
      }
      guard send(client, answer, or: bytes) else { return }
      if name == "migrate", pipe >= 0 {
        try? writeAll(pipe, stream, path: "the migration's pipe")
        close(pipe)
        pipe = -1
      }
    }
  }

  /// - Returns: Whether the client is still there.
  private func send(_ client: Int32, _ answer: FakeQEMU.Answer?, or bytes: [UInt8]) -> Bool {
    guard case .flood(let water) = answer else { return Self.send(client, bytes) }
    while Self.send(client, water) {}
    return false
  }

  private static func send(_ client: Int32, _ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        Glibc.send(client, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  /// The next line and the descriptor that came with it; `nil` at the end.
  private static func receive(_ client: Int32, _ pending: inout [UInt8]) -> (Data, Int32?)? {
    var descriptor: Int32?
    while true {
      if let end = pending.firstIndex(of: 10) {
        let line = Data(pending[..<end])
        pending.removeSubrange(...end)
        return (line, descriptor)
      }
      var block = [UInt8](repeating: 0, count: 65536)
      // A header of 16 bytes, and the descriptor.
      var control = [UInt64](repeating: 0, count: 8)
      var byteCount = 0
      var controlByteCount = 0
      block.withUnsafeMutableBytes { bytes in
        control.withUnsafeMutableBytes { space in
          var piece = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
          withUnsafeMutablePointer(to: &piece) { pieces in
            var message = msghdr()
            message.msg_iov = pieces
            message.msg_iovlen = 1
            message.msg_control = space.baseAddress
            message.msg_controllen = space.count
            byteCount = recvmsg(client, &message, Int32(MSG_CMSG_CLOEXEC))
            controlByteCount = message.msg_controllen
          }
        }
      }
      guard byteCount > 0 else { return nil }
      if controlByteCount >= 20 { descriptor = Int32(truncatingIfNeeded: control[2]) }
      pending += block[..<byteCount]
    }
  }
}
