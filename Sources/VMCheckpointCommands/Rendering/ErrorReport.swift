package import VMCheckpoint

/// A failure as a command reports it to the user, and how the process then ends.
package struct ErrorReport: Sendable {
  package var error: VMCheckpointError

  /// How the process ends.
  package var status: CommandStatus

  /// - Parameter signal: what a cancelled operation was cancelled by.
  package init(_ error: VMCheckpointError, interruptedBy signal: Int32? = nil) {
    self.error = error
    if error.code == .cancelled, let signal {
      status = .signal(signal)
    } else {
      status = .exit(SysExit.code(for: error.code))
    }
  }

  /// For people: one line, whatever the message holds.
  package var line: String {
    "vmckpt: \(printable(error.message))\(error.hint.map { "; " + printable($0) } ?? "")\n"
  }

  /// For programs: one line.
  package var json: String {
    JSONText.line(
      Document(
        error: Body(
          code: error.code.description,
          exitCode: status.shellCode,
          message: error.message,
          hint: error.hint
        )
      )
    )
  }

  /// What another program has reported, as this command's error.
  static func json(message: String, exitCode: Int32) -> String {
    JSONText.line(
      Document(
        error: Body(
          code: VMCheckpointError.Code.invalidArgument.description,
          exitCode: exitCode,
          message: message,
          hint: nil
        )
      )
    )
  }

  /// An object with one member, so that it cannot be taken for a result.
  private struct Document: Encodable {
    var error: Body
  }

  private struct Body: Encodable {
    var code: String
    var exitCode: Int32
    var message: String
    @Nullable var hint: String?

    enum CodingKeys: String, CodingKey {
      case code
      case exitCode = "exit_code"
      case message
      case hint
    }
  }
}

/// Exit codes, as in sysexits.h.
package enum SysExit {
  static let ok: Int32 = 0
  static let dataError: Int32 = 65
  static let unavailable: Int32 = 69

  /// The code of a process that failed with `code`.
  package static func code(for code: VMCheckpointError.Code) -> Int32 {
    switch code {
    case .invalidArgument: 64
    case .invalidData, .corrupt: dataError
    case .notFound: 66
    case .unavailable: unavailable
    case .outOfResources: 71
    case .cannotCreate: 73
    case .inputOutput: 74
    case .locked: 75
    case .permissionDenied: 77
    // Cancelled without a signal: what a shell shows for Ctrl-C.
    case .cancelled: 130
    // EX_SOFTWARE: a code that this table lacks.
    default: 70
    }
  }
}
