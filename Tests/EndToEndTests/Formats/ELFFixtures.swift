import Foundation
import VMCheckpointTestSupport

/// Parts of real dumps, all of QEMU 7.2 or 10.0.
enum ELFFixtures {
  /// From the first device's section to the end of the migration stream of a Debian 6.1 guest with two CPUs.
  static func linuxStreamTail() throws -> [UInt8] {
    let outcome = try run(["/bin/gzip", "-dc", path("linux-6.1.stream-tail.gz")])
    guard outcome.succeeded else { throw TestSetupError("gzip must succeed: \(outcome)") }
    return outcome.standardOutput
  }

  /// The notes of QEMU's own ELF dump of the same guest at the same moment.
  static func linuxNotes() throws -> [UInt8] { try readFile(path("linux-6.1.notes")) }

  /// The page that its VMCOREINFO is in, and where that is.
  static func linuxVMCoreInfoPage() throws -> [UInt8] {
    try readFile(path("linux-6.1.vmcoreinfo-page"))
  }
  static let linuxVMCoreInfoPFN = 0x19d0

  /// All that is before RAM in QEMU's ELF dump of a guest with 16 MiB whose CPU is in real mode.
  static func firmwareHead() throws -> [UInt8] { try readFile(path("firmware.elf-head")) }

  /// The migration stream of the Linux guest, with no page but that of VMCOREINFO.
  static func linuxStream() throws -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header()
    stream.ramStart([("pc.ram", 160 << 8)])
    stream.ramPart(3)
    for page in 0..<(160 << 8) where page != linuxVMCoreInfoPFN { stream.zeroPage("pc.ram", page) }
    stream.page("pc.ram", linuxVMCoreInfoPFN, try linuxVMCoreInfoPage())
    stream.ramEnd()
    stream.raw(try linuxStreamTail())
    return stream.bytes
  }

  private static func path(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/\(name)").path
  }
}
