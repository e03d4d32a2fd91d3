/// `text` in quotation marks, on one line, with control characters escaped, and cut when it is
/// longer than a path can be: how names and paths are shown in messages.
package func quotedName(_ text: String) -> String {
  quotedName(text, maximumScalarCount: 4096)
}

/// The same of a text of any length: what is cut off cannot be judged.
package func quotedName(_ text: String, maximumScalarCount: Int) -> String {
  var result = "\""
  for (index, scalar) in text.unicodeScalars.enumerated() {
    if index == maximumScalarCount {
      result += "…"
      break
    }
    // Format characters (such as U+202E, which turns the text around) deceive as well.
    switch scalar.properties.generalCategory {
    case .format, .lineSeparator, .paragraphSeparator, .control, .surrogate, .unassigned:
      result += "\\u{\(String(scalar.value, radix: 16))}"
    case _ where scalar == "'":
      result += "'"
    default:
      result += scalar.escaped(asASCII: false)
    }
  }
  return result + "\""
}
