import Foundation
import Testing

/// Which QEMU a test runs: streams, monitors and what a guest's RAM is made of differ between them.
package enum QEMURelease: String, CaseIterable, Sendable, CustomTestStringConvertible {
  /// The system's, which is 7.2 in Debian 12.
  case system
  /// Debian 13's, which `Scripts/qemu10` unpacks beside the system's.
  case ten

  package var testDescription: String { self == .system ? "the system's QEMU" : "QEMU 10" }

  /// The path of the program. Without QEMU 10 its tests fail: they are not skipped.
  package func program() throws -> String {
    switch self {
    case .system: return "/usr/bin/qemu-system-x86_64"
    case .ten:
      let path = environmentValue("VMCKPT_QEMU10") ?? Self.unpackedPath
      guard exists(path) else {
        throw TestSetupError("there is no QEMU 10 at \(path); make it with Scripts/qemu10")
      }
      return path
    }
  }

  /// Where `Scripts/qemu10` puts it.
  private static var unpackedPath: String {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: ".build-qemu10/tree/usr/bin/qemu-system-x86_64").path
  }
}
