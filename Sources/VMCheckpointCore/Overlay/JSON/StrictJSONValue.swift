/// A JSON value as ``StrictJSONReader`` reads it: integers are exact, keys keep their order.
package enum StrictJSONValue: Hashable, Sendable {
  case null
  case boolean
  /// A number without fraction and exponent, within ±(2⁶⁴ - 1).
  case integer(isNegative: Bool, magnitude: UInt64)
  /// Any other number: nothing here wants one, so its value is not kept.
  case otherNumber
  case string(String)
  case array([StrictJSONValue])
  case object([Member])

  package struct Member: Hashable, Sendable {
    package var key: String
    package var value: StrictJSONValue
  }

  /// The value's type, for messages. Never the value: it may be a guest's memory.
  package var typeDescription: String {
    switch self {
    case .null: "null"
    case .boolean: "a boolean"
    case .integer: "a number"
    case .otherNumber: "a number that is not a 64-bit integer"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// Where a value is in a document, spelled `overlays[2].pfn`.
package struct JSONPath {
  package enum Component {
    case key(String)
    case index(Int)
  }

  package var components: [Component]

  package init(components: [Component] = []) {
    self.components = components
  }

  package func appending(_ component: Component) -> JSONPath {
    JSONPath(components: components + [component])
  }

  /// The error for the value at this path.
  package func invalid(_ message: String, hint: String? = nil) -> VMCheckpointError {
    .invalidData(components.isEmpty ? message : "\(self): \(message)", hint: hint)
  }
}

extension JSONPath: CustomStringConvertible {
  package var description: String {
    var text = ""
    for component in components {
      switch component {
      case .index(let index):
        text += "[\(index)]"
      case .key(let key):
        if !text.isEmpty { text += "." }
        text += Self.isPlain(key) ? key : quotedForMessage(key)
      }
    }
    return text
  }

  private static func isPlain(_ key: String) -> Bool {
    (1...maximumEchoedByteCount).contains(key.utf8.count)
      && key.utf8.allSatisfy { byte in
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || byte == UInt8(ascii: "_")
      }
  }
}

/// The longest string from a document that a message repeats: longer than every word of the
/// format, and far shorter than anything that could be a page.
private let maximumEchoedByteCount = 32

/// `string` in quotes on one line: control characters and everything that is not ASCII escaped,
/// and only its length when it is long.
package func quotedForMessage(_ string: String) -> String {
  guard string.utf8.count <= maximumEchoedByteCount else {
    return "a string of \(string.utf8.count) bytes"
  }
  var text = "\""
  for scalar in string.unicodeScalars {
    switch scalar {
    case "\"", "\\":
      text += "\\\(scalar)"
    case " "..."~":
      text.unicodeScalars.append(scalar)
    default:
      text += "\\u{\(String(scalar.value, radix: 16))}"
    }
  }
  return text + "\""
}
