package import VMCheckpoint

/// What `remote probe` prints.
package struct RemoteProbeOutput: CommandOutput, Hashable {
  struct Finding: Codable, Hashable, Sendable {
    var what: String
    var right: Bool
    @Nullable var seen: String?
  }

  var address: String
  var fit: Bool
  var findings: [Finding]
  var clockSkewSeconds: Int64
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case address, fit, findings
    case clockSkewSeconds = "clock_skew_seconds"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ address: String, _ result: RemoteProbeResult, warnings: [String]) {
    self.address = address
    fit = result.isFit
    findings = result.findings.map { Finding(what: $0.what, right: $0.isRight, seen: $0.seen) }
    clockSkewSeconds = result.clockSkewSeconds
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var exitCode: Int32 { fit ? SysExit.ok : SysExit.unavailable }

  package var text: String {
    findings.map { finding in
      let seen = finding.seen.map { ": \(printable($0))" } ?? ""
      return "  \(finding.right ? "yes" : "NO ")  \(finding.what)\(seen)\n"
    }.joined()
      + (fit ? "A remote can be kept at" : "A remote would lose data at")
      + " \(printable(address))\n"
  }
}
