import Foundation
import Glibc

/// A network that takes a while, between this host and a server on it. It ends when the object goes away.
package final class DelayingProxy {
  package let port: UInt16
  private let process: ChildProcess

  /// - Parameter milliseconds: By how much each answer comes later.
  package init(to serverPort: UInt16, milliseconds: Int) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw TestSetupError("cannot make a pipe") }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(ends[0]) }
    process = try ChildProcess(
      [
        root.appending(path: "Scripts/object-store.d/delay").path, "127.0.0.1:\(serverPort)",
        "\(milliseconds)",
      ],
      outputDescriptor: ends[1]
    )
    close(ends[1])
    var line = [UInt8](repeating: 0, count: 16)
    let count = read(ends[0], &line, line.count)
    let digits = String(decoding: line[..<max(0, count)], as: UTF8.self)
    guard let port = UInt16(digits.trimmingCharacters(in: .whitespacesAndNewlines)) else {
      throw TestSetupError("the proxy does not start: \(try process.wait())")
    }
    self.port = port
  }

  deinit {
    process.send(SIGKILL)
    _ = try? process.wait()
  }
}
