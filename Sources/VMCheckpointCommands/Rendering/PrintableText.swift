/// `text` on one line, with what could move a terminal's cursor or reorder its text escaped:
/// names and messages come from files and from other people.
///
/// Backslashes stay as they are: this is for reading, and JSON is for programs.
package func printable(_ text: some StringProtocol) -> String {
  // Almost all texts; properties of scalars take long to look up.
  if text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) { return String(text) }
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
      result += scalar.escaped(asASCII: true)
    default:
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}
