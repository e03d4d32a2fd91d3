import Foundation
import Glibc

extension IdleMachine {
  /// Puts bytes where the machine has them as its RAM from `gpa` on. They must be in one block.
  package func write(_ bytes: [UInt8], at gpa: Int) throws {
    let count = try withMemory(O_WRONLY, at: gpa) { descriptor, address in
      bytes.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, address) }
    }
    guard count == bytes.count else { throw TestSetupError("QEMU's memory cannot be written") }
  }

  /// What the machine's RAM has from `gpa` on, devices and ROMs that lie over it left aside.
  package func read(_ byteCount: Int, at gpa: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let count = try withMemory(O_RDONLY, at: gpa) { descriptor, address in
      bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, address) }
    }
    guard count == byteCount else { throw TestSetupError("QEMU's memory cannot be read") }
    return bytes
  }

  /// Waits until a machine with ``RacingFirmware`` has written some rounds more.
  ///
  /// - Parameter connection: To the second monitor, where there is one already.
  package func waitUntilItWrites(
    _ what: String = "",
    by connection: QMPConnection? = nil
  ) throws {
    let monitor = try connection ?? self.monitor()
    let path = "\(workingDirectory)/page"
    defer { unlink(path) }
    func round() throws -> UInt32 {
      try monitor.run(
        "pmemsave",
        ["val": RacingFirmware.firstAddress, "size": 4, "filename": path]
      )
      return try readFile(path).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    }
    let before = try round()
    try waitUntil("the machine writes \(what)") { try round() > before + 100 }
  }

  private func withMemory(
    _ flags: Int32,
    at gpa: Int,
    _ body: (Int32, off_t) -> Int
  ) throws -> Int {
    let answer = try monitor().run(
      "human-monitor-command",
      ["command-line": "gpa2hva 0x\(String(gpa, radix: 16))"]
    )
    guard let text = answer as? String, let range = text.range(of: " is 0x"),
      let address = Int(text[range.upperBound...].prefix { $0.isHexDigit }, radix: 16)
    else { throw TestSetupError("where RAM is at \(gpa): \(answer)") }
    let descriptor = open("/proc/\(process.identifier)/mem", flags | O_CLOEXEC)
    guard descriptor >= 0 else { throw TestSetupError("QEMU's memory cannot be opened") }
    defer { close(descriptor) }
    return body(descriptor, off_t(address))
  }
}
