import Foundation
import Glibc
import VMCheckpointTestSupport

/// The built example `kvm-overlay-guest`, with a store that `vmckpt` examines.
struct OverlayGuest {
  let bench: Workbench
  private let binaryPath: String

  init() throws {
    bench = try Workbench()
    binaryPath = try Self.path()
  }

  /// The built binary.
  static func path() throws -> String {
    guard let path = environmentValue("VMCKPT_KVM_GUEST"), exists(path) else {
      throw TestSetupError(
        "VMCKPT_KVM_GUEST does not name the built example; run the tests with Scripts/test"
      )
    }
    return path
  }

  /// Whether a guest can run here. In CI, a device that is there must also work.
  static var canRun: Bool {
    guard exists("/dev/kvm") else { return false }
    let descriptor = open("/dev/kvm", O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { return environmentValue("CI") == "true" }
    close(descriptor)
    return true
  }

  /// Boots a guest in a process of its own and lets it do `steps`.
  func run(_ steps: String...) throws -> [Report] {
    try reports(["run"] + steps)
  }

  /// Goes on with a saved guest in a process of its own.
  func resume(_ reference: String, _ steps: String...) throws -> [Report] {
    try reports(["resume", reference] + steps)
  }

  /// Goes on with a saved guest whose RAM comes from a page server while it runs.
  func resumeLazily(
    _ reference: String,
    servedAt socketPath: String,
    _ steps: String...
  ) throws -> [Report] {
    try waitUntil("somebody serves at \(socketPath)") { (try? UnixPeer(socketPath)) != nil }
    return try reports(
      ChildProcess(
        [binaryPath, "resume", reference, "--lazy", socketPath, "--store", bench.storePath] + steps
      ).wait()
    )
  }

  /// How it ends to go on with a saved guest.
  func resumeOutcome(_ reference: String, _ steps: String...) throws -> ProcessOutcome {
    try outcome(["resume", reference] + steps)
  }

  private func outcome(_ arguments: [String]) throws -> ProcessOutcome {
    let ram = bench.directory.file("\(UUID().uuidString).ram")
    defer { unlink(ram) }
    return try ChildProcess(
      [binaryPath] + arguments + ["--store", bench.storePath, "--ram", ram]
    ).wait()
  }

  private func reports(_ arguments: [String]) throws -> [Report] {
    try reports(outcome(arguments))
  }

  private func reports(_ outcome: ProcessOutcome) throws -> [Report] {
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return try outcome.text.split(separator: "\n").compactMap { line in
      guard !line.hasPrefix(#"{"saved":"#) else { return nil }
      return try JSONDecoder().decode(Report.self, from: Data(line.utf8))
    }
  }

  /// A line of the example's output: what the guest itself found.
  struct Report: Decodable {
    var round: Int
    var enabled: [String]
    var problems: [String]
    var hypercallResult: Int?
    var clockPage: [String]
    var referenceTime: Int

    private enum CodingKeys: String, CodingKey {
      case round, enabled, problems
      case hypercallResult = "hypercall_result"
      case clockPage = "clock_page"
      case referenceTime = "reference_time"
    }

    /// The sequence with the reserved bits above it.
    var sequence: String { clockPage[0] }
    var scale: String { clockPage[1] }
    var offset: String { clockPage[2] }
  }
}

/// What the guest's pages must hold, written down without the library's or the example's help.
enum OverlayGuestPages {
  static let hypercallPFN = 0x10
  static let referenceTSCPFN = 0x11

  /// What the guest wrote where it enabled its hypercall page: `mov eax, 0xbad; ret; nop; nop`.
  static let beneathHypercall = repeated([0xb8, 0xad, 0x0b, 0x00, 0x00, 0xc3, 0x90, 0x90])

  /// What the guest wrote where it enabled its reference TSC page.
  static let beneathReferenceTSC = repeated(Array("kcitkcit".utf8))

  /// The same as a report has it.
  static let beneathHypercallWord = "0x9090c300000badb8"
  static let beneathReferenceTSCWord = "0x7469636b7469636b"

  static func scale(hz: UInt64) -> String { "0x" + String(OverlayJSON.scale(hz: hz), radix: 16) }

  private static func repeated(_ bytes: [UInt8]) -> [UInt8] {
    Array(repeatElement(bytes, count: 4096 / bytes.count).joined())
  }
}
