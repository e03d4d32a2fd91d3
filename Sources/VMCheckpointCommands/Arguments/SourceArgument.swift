import Glibc
package import VMCheckpoint

/// A format of captured RAM that `save` reads and `restore` writes.
enum RAMFormat: String, CaseIterable, Sendable {
  /// A flat file: the guest's regions at their offsets, without a header.
  case raw
  /// A snapshot of propolis-standalone.
  case propolis
  /// A QEMU migration stream: RAM and device state.
  case qemuStream = "qemu-stream"
  /// A VM that QEMU runs, or a directory to run it from.
  case qemu

  /// What `restore` calls it.
  var restoreFormat: RestoreFormat {
    switch self {
    case .raw: .raw
    case .propolis: .propolis
    case .qemuStream: .qemuStream
    case .qemu: .qemu
    }
  }

  /// For messages.
  static var list: String { allCases.map { "\($0.rawValue):" }.joined(separator: ", ") }
}

/// The SOURCE of `save`: a path, `-`, or either behind `FORMAT:`.
package enum SourceArgument: Hashable, Sendable {
  case file(path: String)
  case propolis(path: String)
  case standardInput
  case qemuStream(path: String)
  case qemuStreamFromStandardInput
  case qemu(socketPath: String)

  /// Parses `text`. What looks like a format and is none, but is a file's name, is that file.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  package init(
    _ text: String,
    fileExists: (String) -> Bool = { access($0, F_OK) == 0 }
  ) throws(VMCheckpointError) {
    var path = text
    var format = RAMFormat.raw
    if let scheme = Self.scheme(of: text) {
      if let known = RAMFormat(rawValue: scheme) {
        format = known
        path = String(text.dropFirst(scheme.utf8.count + 1))
      } else if !fileExists(text) {
        throw VMCheckpointError(
          .invalidArgument,
          "unknown format '\(scheme):' in SOURCE",
          hint: "known: \(RAMFormat.list); write ./\(text) for a file of that name"
        )
      }
    } else if path.hasSuffix(".tar") {
      // An archive whose size is a multiple of 4096 would pass for RAM.
      throw VMCheckpointError(
        .invalidArgument,
        "SOURCE \(quotedName(path)) looks like an archive and not like RAM",
        hint: "write propolis:\(path) for a snapshot of Propolis, or raw:\(path) for RAM"
      )
    }
    guard !path.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "SOURCE is empty",
        hint: "give a RAM file's path, or -"
      )
    }
    switch format {
    case .raw: self = path == "-" ? .standardInput : .file(path: path)
    case .qemuStream: self = path == "-" ? .qemuStreamFromStandardInput : .qemuStream(path: path)
    case .qemu: self = .qemu(socketPath: path)
    case .propolis:
      guard path != "-" else {
        throw VMCheckpointError(
          .invalidArgument,
          "a Propolis snapshot cannot be read from standard input",
          hint: "give its file: its RAM is read in place, and the archive's order may be any"
        )
      }
      self = .propolis(path: path)
    }
  }

  /// Whether SOURCE is read from standard input.
  var isStandardInput: Bool { self == .standardInput || self == .qemuStreamFromStandardInput }

  /// The letters, digits and dashes before the first colon, if there are only such.
  private static func scheme(of text: String) -> String? {
    guard let colon = text.firstIndex(of: ":") else { return nil }
    let scheme = text[..<colon]
    guard let first = scheme.first, first.isASCII, first.isLetter,
      scheme.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })
    else { return nil }
    return String(scheme)
  }
}
