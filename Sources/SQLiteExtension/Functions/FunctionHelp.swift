import VMCheckpointCore

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

  private init(
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

  /// - Precondition: There is such a function.
  static func named(_ name: String) -> FunctionHelp { all.first { $0.name == name }! }

  static let all: [FunctionHelp] = [
    FunctionHelp(
      "page_data",
      ["snapshot", "pfn"],
      returns: "BLOB",
      "the page's 4096 bytes as bare RAM, checked by their SHA-256; NULL where there is no RAM"
    ),
    FunctionHelp(
      "page_view",
      ["snapshot", "pfn"],
      returns: "BLOB",
      "the page as the guest sees it, with its active overlay; NULL where there is no RAM"
    ),
    FunctionHelp(
      "ram_read",
      ["snapshot", "gpa", "length"],
      returns: "BLOB",
      "bare RAM from a guest-physical address on; NULL where any of it is no RAM"
    ),
    FunctionHelp(
      "hexdump",
      ["blob"],
      optional: ["base"],
      returns: "TEXT",
      "the bytes in hexadecimal and ASCII, 16 a line; * stands for lines like the one before"
    ),
    FunctionHelp(
      "page_sha256",
      ["blob"],
      returns: "TEXT",
      "the SHA-256 in lower-case hexadecimal, as views show digests"
    ),
    FunctionHelp(
      "lz4_frame_decode",
      ["blob"],
      returns: "BLOB",
      "what one LZ4 frame holds, its checksums found right"
    ),
    FunctionHelp(
      "chunk_pages",
      ["encoding", "data"],
      returns: "BLOB",
      "the pages of a chunk, in slot order, from its encoding and data; no digest is compared"
    ),
    FunctionHelp(
      "overlay_contents",
      ["kind", "parameters"],
      optional: ["contents_chunk_id", "contents_slot"],
      returns: "BLOB",
      "the 4096 bytes of an overlay: derived from kind and parameters, or as stored"
    ),
    FunctionHelp("pfn", ["gpa"], returns: "INTEGER", "the page frame number: gpa >> 12"),
    FunctionHelp("gpa", ["pfn"], returns: "INTEGER", "the page's first address: pfn << 12"),
    FunctionHelp(
      "msr_overlay",
      ["msr", "value"],
      returns: "TEXT",
      "the overlay that a register with this value places, as JSON; NULL for other registers"
    ),
    FunctionHelp(
      "ram_page",
      ["snapshot"],
      kind: .table,
      returns: "rows",
      "a row for each page of RAM: zero, stored or shared, its digest, in how many snapshots it is"
    ),
    FunctionHelp(
      "ram_diff",
      ["a", "b"],
      kind: .table,
      returns: "rows",
      "a row for each page that was added, zeroed or changed from a to b"
    ),
    FunctionHelp(
      "ram_search",
      ["snapshot", "pattern"],
      optional: ["alignment"],
      kind: .table,
      returns: "rows",
      "a row for each place in bare RAM where the text or BLOB stands"
    ),
    FunctionHelp(
      "ram_strings",
      ["snapshot", "min_length"],
      optional: ["encoding"],
      kind: .table,
      returns: "rows",
      "a row for each printable text in bare RAM: 'ascii' or 'utf-16le'"
    ),
    FunctionHelp(
      "page_history",
      ["vm", "pfn"],
      kind: .table,
      returns: "rows",
      "a row for each snapshot of a VM: what the page was, and whether it changed"
    ),
    FunctionHelp(
      "page_owners",
      ["digest"],
      kind: .table,
      returns: "rows",
      "a row for each page of each snapshot that has this content"
    ),
    FunctionHelp(
      "vmckpt_help",
      [],
      returns: "TEXT",
      "these functions; FROM vmckpt_help gives a row for each"
    ),
  ]

  /// All functions as a text, for `SELECT vmckpt_help()`.
  static var text: String {
    let width = all.map(\.signature.count).max()!
    return all.map { help in
      let padding = String(repeating: " ", count: width - help.signature.count)
      return "\(help.signature)\(padding)  \(help.summary)"
    }.joined(separator: "\n")
  }
}
