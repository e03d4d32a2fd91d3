import Foundation

/// A connection to QEMU's monitor, for tests: one command at a time, events left aside.
package final class QMPConnection {
  private let descriptor: Int32
  private var pending: [UInt8] = []
  /// How often the guest was stopped, up to the last answer.
  package private(set) var stopCount = 0

  /// Connects, waiting for the socket to appear.
  package init(path: String, timeoutSeconds: Double = 120) throws {
    let deadline = monotonicSeconds() + timeoutSeconds
    var connected: Int32?
    while connected == nil {
      connected = Self.connect(path)
      guard connected == nil else { break }
      guard monotonicSeconds() < deadline else { throw TestSetupError("no monitor at \(path)") }
      usleep(20_000)
    }
    descriptor = connected!
    var timeout = timeval(tv_sec: 180, tv_usec: 0)
    setsockopt(
      descriptor,
      SOL_SOCKET,
      SO_RCVTIMEO,
      &timeout,
      socklen_t(MemoryLayout<timeval>.size)
    )
    _ = try line()
    try run("qmp_capabilities")
  }

  deinit { close(descriptor) }

  private static func connect(_ path: String) -> Int32? {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let result = withUnixAddress(path) { Glibc.connect(descriptor, $0, $1) }
    guard result != 0 else { return descriptor }
    close(descriptor)
    return nil
  }

  private func line() throws -> [String: Any] {
    while true {
      if let end = pending.firstIndex(of: 10) {
        let text = Data(pending[..<end])
        pending.removeSubrange(...end)
        return try JSONSerialization.jsonObject(with: text) as? [String: Any] ?? [:]
      }
      var block = [UInt8](repeating: 0, count: 65536)
      let count = read(descriptor, &block, block.count)
      guard count > 0 else { throw TestSetupError("QEMU's monitor went silent") }
      pending += block[..<count]
    }
  }

  /// Runs a command; returns its result.
  @discardableResult
  package func run(_ command: String, _ arguments: [String: Any] = [:]) throws -> Any {
    var message = try JSONSerialization.data(
      withJSONObject: ["execute": command, "arguments": arguments]
    )
    message.append(10)
    try writeAll(descriptor, Array(message), path: "QMP")
    while true {
      let reply = try line()
      if reply["event"] as? String == "STOP" { stopCount += 1 }
      if let result = reply["return"] { return result }
      if let error = reply["error"] { throw TestSetupError("\(command): \(error)") }
    }
  }

  /// The run state, such as `running`.
  package func status() throws -> String {
    (try run("query-status") as? [String: Any])?["status"] as? String ?? ""
  }

  /// Sends the guest to `uri` and waits until that is done.
  package func migrate(to uri: String) throws {
    try run("migrate", ["uri": uri])
    while true {
      let state = (try run("query-migrate") as? [String: Any])?["status"] as? String ?? ""
      if state == "completed" { return }
      guard !["failed", "cancelled"].contains(state) else {
        throw TestSetupError("migration to \(uri): \(state)")
      }
      usleep(20_000)
    }
  }
}
