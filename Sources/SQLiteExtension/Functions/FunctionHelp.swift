/// What `vmckpt_help()` says of a function. Schema/README.md says more.
struct FunctionHelp {
  enum Kind: String {
    case scalar
    case table
  }

  let kind: Kind
  let name: String
  /// The arguments' names in order; those from ``requiredArgumentCount`` on may be left out.
  let arguments: [String]
  let requiredArgumentCount: Int
  let returns: String
  let summary: String

  init(
    _ name: String,
    _ required: [String],
    optional: [String] = [],
    kind: Kind = .scalar,
    returns: String,
    _ summary: String
  ) {
    self.kind = kind
    self.name = name
    arguments = required + optional
    requiredArgumentCount = required.count
    self.returns = returns
    self.summary = summary
  }

  /// Such as `hexdump(blob [, base])`.
  var signature: String {
    let required = arguments.prefix(requiredArgumentCount).joined(separator: ", ")
    let optional = arguments.dropFirst(requiredArgumentCount).joined(separator: ", ")
    guard !optional.isEmpty else { return "\(name)(\(required))" }
    return "\(name)(\(required)\(required.isEmpty ? "[" : " [, ")\(optional)])"
  }
}
