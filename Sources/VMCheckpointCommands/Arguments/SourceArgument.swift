import Glibc
package import VMCheckpoint
import VMCheckpointFormats

/// The SOURCE of `save` and `convert`: a path, `-`, or either behind `FORMAT:`.
package struct SourceArgument: Hashable, Sendable {
  /// The format that SOURCE names; `nil`: its first bytes decide.
  package var formatName: String?
  /// Without the format's name; `-` for standard input.
  package var path: String

  /// Makes one with these values.
  package init(formatName: String?, path: String) {
    self.formatName = formatName
    self.path = path
  }

  /// Parses `text`. An unknown format that is the beginning of an existing file's name belongs to the
  /// name.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  package init(
    _ text: String,
    fileExists: (String) -> Bool = { access($0, F_OK) == 0 }
  ) throws(VMCheckpointError) {
    path = Self.withoutFileScheme(text)
    if path == text, let scheme = Self.scheme(of: text) {
      if FormatRegistry.format(named: scheme) != nil {
        formatName = scheme
        path = Self.withoutFileScheme(String(text.dropFirst(scheme.utf8.count + 1)))
      } else if !fileExists(text) {
        let known = FormatRegistry.all.map { "\($0.name):" }.joined(separator: ", ")
        throw VMCheckpointError(
          .invalidArgument,
          "unknown format '\(scheme):' in SOURCE",
          hint: "known: \(known); write ./\(text) for a file of that name"
        )
      }
    }
    if path.isEmpty, let formatName, let format = FormatRegistry.format(named: formatName) {
      throw VMCheckpointError(
        .invalidArgument,
        "SOURCE has nothing behind '\(formatName):'",
        hint: format.savesLive
          ? "write \(formatName):SOCKET"
          : format.namesDomain
            ? "write \(formatName):DOMAIN"
            : "write \(formatName):PATH" + (format.readsStreams ? ", or \(formatName):-" : "")
      )
    }
    guard !path.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "SOURCE is empty",
        hint: "give a RAM file's path, or -"
      )
    }
  }

  /// Whether SOURCE is read from standard input.
  var isStandardInput: Bool { path == "-" }

  /// Whether SOURCE is the name of a VM and not a path.
  var namesDomain: Bool {
    formatName.flatMap(FormatRegistry.format(named:))?.namesDomain ?? false
  }

  /// The format that SOURCE names, or that the file's first bytes show. A stream without a name counts
  /// as flat RAM until it is read.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` for a file of a known kind that is not a
  ///   guest's RAM.
  func format() throws(VMCheckpointError) -> any MemoryFormat {
    if let formatName { return FormatRegistry.format(named: formatName)! }
    return isStandardInput ? FormatRegistry.flat : try FormatRegistry.recognize(path: path)
  }

  /// The path of a URL such as `file:///srv/web`, as other tools call for; other text as it is.
  private static func withoutFileScheme(_ text: String) -> String {
    let scheme = "file://"
    return text.hasPrefix(scheme + "/") ? String(text.dropFirst(scheme.utf8.count)) : text
  }

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
