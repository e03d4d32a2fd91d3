import Foundation
import VMCheckpoint

/// What the guest says of one round, in eight little-endian numbers of 64 bits.
struct GuestReport: Encodable {
  /// The size of a report.
  static let byteCount = 64

  /// How many rounds the guest has made since it booted, this one included.
  var round: UInt64

  /// The overlays that it has enabled.
  var enabled: [OverlayKind]

  /// What it found to be wrong.
  var problems: [Problem]

  /// What the hypercall returned; absent when it made none.
  var hypercallResult: UInt64?

  /// The first 24 bytes of the page where it enabled its reference TSC, whatever is there now, as
  /// numbers of 64 bits in hexadecimal.
  var clockPage: [String]

  /// The time that its reference clock gave when it was last read, in units of 100 ns.
  var referenceTime: Int64

  /// What the guest checks.
  enum Problem: String, Encodable {
    /// The hypercall returned something other than HV_STATUS_INVALID_HYPERCALL_CODE.
    case hypercallResult = "hypercall-result"
    /// The page is not a valid reference TSC page, or its time went back.
    case clock
    /// A page without an overlay does not hold what the guest wrote there.
    case underlay
  }

  private enum CodingKeys: String, CodingKey {
    case round, enabled, problems
    case hypercallResult = "hypercall_result"
    case clockPage = "clock_page"
    case referenceTime = "reference_time"
  }

  init(_ bytes: [UInt8]) throws {
    guard bytes.count == Self.byteCount else {
      throw KVMError("a report has \(Self.byteCount) bytes, not \(bytes.count)")
    }
    let words = bytes.withUnsafeBytes { buffer in
      stride(from: 0, to: buffer.count, by: 8).map {
        UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: $0, as: UInt64.self))
      }
    }
    round = words[0]
    let kinds: [(UInt64, OverlayKind)] = [(1, .hypercall), (2, .referenceTSC)]
    enabled = kinds.filter { words[1] & $0.0 != 0 }.map(\.1)
    let checks: [(UInt64, Problem)] = [(1, .hypercallResult), (2, .clock), (4, .underlay)]
    problems = checks.filter { words[2] & $0.0 != 0 }.map(\.1)
    hypercallResult = words[3] == .max ? nil : words[3]
    clockPage = words[4...6].map { "0x" + String($0, radix: 16) }
    referenceTime = Int64(bitPattern: words[7])
  }
}
