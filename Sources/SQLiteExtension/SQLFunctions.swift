/// All functions: a file each, with its help, and a line here.
enum SQLFunctions {
  /// Functions that give one value.
  static var scalars: [ScalarFunction] {
    [
      .pageData,
      .pageView,
      .ramRead,
      .hexdump,
      .pageSHA256,
      .lz4FrameDecode,
      .chunkPages,
      .overlayContents,
      .pfn,
      .gpa,
      .msrOverlay,
      .guestRead,
      .help,
    ]
  }

  /// Functions that give rows.
  static var tables: [TableFunction] {
    [
      .ramPage,
      .ramDiff,
      .ramSearch,
      .ramStrings,
      .pageHistory,
      .pageOwners,
      .guestOS,
      .guestProcess,
      .guestThread,
      .guestFile,
      .guestMapping,
      .guestSocket,
      .guestNetworkDevice,
      .guestMount,
      .guestModule,
      .guestLog,
      .guestSymbol,
      .guestStruct,
      .guestPage,
      .guestChange,
      .help,
    ]
  }

  /// What `vmckpt_help` says, in this order; itself last.
  static let help: [FunctionHelp] =
    scalars.dropLast().map(\.help) + tables.map(\.help)

  /// All functions as a text, for `SELECT vmckpt_help()`.
  static var helpText: String {
    let width = help.map(\.signature.count).max()!
    return help.map { help in
      let padding = String(repeating: " ", count: width - help.signature.count)
      return "\(help.signature)\(padding)  \(help.summary)"
    }.joined(separator: "\n")
  }
}
