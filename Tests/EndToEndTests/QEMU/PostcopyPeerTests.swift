import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Programs that are not QEMU at the other end of `vmckpt serve --qemu`.
@Suite struct PostcopyPeerTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    let stream = try bench.write("guest.stream", FakeQEMU.stream(pageCount: 64))
    try bench.tool.succeed("save", "qemu-stream:\(stream)", "--name", "guest")
  }

  private static func message(_ kind: UInt16, _ data: [UInt8]) -> [UInt8] {
    bigEndian(kind) + bigEndian(UInt16(data.count)) + data
  }

  private static func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  private static func request(_ name: String, start: UInt64, byteCount: UInt32) -> [UInt8] {
    message(3, bigEndian(start) + bigEndian(byteCount) + [UInt8(name.utf8.count)] + name.utf8)
  }

  private static let advised = message(2, [0, 0, 0, 2])
  private static let loaded = message(2, [0, 0, 0, 3])

  /// What a program answers with `bytes`, which then goes away.
  private func outcome(_ bytes: [UInt8]) throws -> ProcessOutcome {
    let listener = try PostcopyPeer(bench.directory.file("incoming-\(UUID().uuidString.prefix(8))"))
    let server = try bench.tool.start(["serve", "guest", "--qemu", "--connect", listener.path])
    try listener.answer(bytes)
    return try server.wait()
  }

  @Test("nonsense is refused, and nothing crashes")
  func nonsense() throws {
    let cases: [(String, [UInt8])] = [
      ("an unknown message", Self.message(99, [1])),
      ("a long message", [0, 2, 0xff, 0xff] + [UInt8](repeating: 7, count: 1000)),
      ("a short pong", Self.message(2, [1])),
      ("a request without a block", Self.message(4, [UInt8](repeating: 0, count: 12))),
      ("a request that is cut off", Self.message(3, [1, 2, 3])),
      ("a name that is too long", Self.message(3, [UInt8](repeating: 0, count: 12) + [200, 1])),
      ("a bitmap", Self.message(5, [1, 65])),
      ("another block", Self.advised + Self.request("no.ram", start: 0, byteCount: 4096)),
      (
        "pages behind the end",
        Self.advised + Self.request("pc.ram", start: 1 << 40, byteCount: 4096)
      ),
      ("no page", Self.advised + Self.request("pc.ram", start: 0, byteCount: 0)),
      ("half a page", Self.advised + Self.request("pc.ram", start: 2048, byteCount: 4096)),
      (
        "too many pages",
        Self.advised + Self.request("pc.ram", start: .max & ~4095, byteCount: .max & ~4095)
      ),
      ("many pongs", (0..<40).flatMap { Self.message(2, Self.bigEndian(UInt32($0 + 10))) }),
    ]
    for (what, bytes) in cases {
      let outcome = try outcome(bytes)
      #expect(outcome.ending == .exit(65), "\(what): \(outcome)")
      #expect(outcome.standardError.contains("QEMU's return path has"), "\(what): \(outcome)")
    }
  }

  @Test("a program that goes away is not taken for a guest that has its pages")
  func gone() throws {
    for bytes in [[], [0], Self.advised, Self.advised + Self.loaded] {
      let outcome = try outcome(bytes)
      #expect(outcome.ending == .exit(69), "\(outcome)")
    }
    let failed = try outcome(Self.advised + Self.loaded + Self.message(1, [0, 0, 0, 1]))
    #expect(failed.ending == .exit(69))
    #expect(failed.standardError.contains("QEMU ends the migration with error 1"))
  }

  @Test("what does not go together is refused")
  func usage() throws {
    let cases = [
      ["--qemu", "--uffd", "x"], ["--uffd", "x", "--recover", "y"],
      ["--uffd", "x", "--connect", "y"],
      ["--qemu", "--connect", "x", "--recover", "y"], ["--qemu", "--once"], [],
      // Standard input and output do not lead to QEMU.
      ["--qemu"],
    ]
    for options in cases {
      let outcome = try bench.tool.start(["serve", "guest"] + options).wait()
      #expect(outcome.ending == .exit(64), "\(outcome)")
    }
    try bench.save("flat", sampleRAM(16, seed: 1))
    let flat = try bench.tool.run("serve", "flat", "--qemu", "--connect", "x")
    #expect(flat.ending == .exit(64))
    #expect(flat.standardError.contains("has no device state of QEMU"))
    let monitor = try bench.tool.run("serve", "guest", "--qemu", "--recover", "missing")
    #expect(monitor.ending == .exit(66), "\(monitor)")
    let fake = try FakeQEMU(in: bench.directory)
    let idle = try bench.tool.run("serve", "guest", "--qemu", "--recover", fake.path)
    #expect(idle.ending == .exit(69), "\(idle)")
  }
}

/// A program that listens as QEMU does for a migration, and answers whatever a test wants.
private final class PostcopyPeer {
  let path: String
  private let listener: Int32

  init(_ path: String) throws {
    self.path = path
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    try #require(bytes.count < MemoryLayout.size(ofValue: address.sun_path))
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(result == 0 && listen(listener, 1) == 0)
  }

  deinit { close(listener) }

  /// Takes a connection, sends `bytes` and nothing more, and reads to the end.
  func answer(_ bytes: [UInt8]) throws {
    var request = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
    try #require(poll(&request, 1, 180_000) == 1, "nobody connects")
    let connection = accept(listener, nil, nil)
    defer { close(connection) }
    _ = bytes.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    shutdown(connection, Int32(SHUT_WR))
    var block = [UInt8](repeating: 0, count: 65536)
    while read(connection, &block, block.count) > 0 {}
  }
}
