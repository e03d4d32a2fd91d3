package import ArgumentParser
package import VMCheckpoint

/// `vmckpt sql`.
package struct SQLCommand: HandoverCommand {
  package static let configuration = CommandConfiguration(
    commandName: "sql",
    abstract: "Open the store in the sqlite3 shell, read-only.",
    usage: "vmckpt sql [<ref>] [<query>] [<options>]",
    discussion: """
      Runs the installed sqlite3 on the store; without a query it reads standard input, or \
      asks on a terminal. In SQL, ':snapshot' is the name of the REF's snapshot, or of the \
      newest. One argument alone is a REF if it can be one and does not begin with a dot, \
      and otherwise a query.

      Output is boxed on a terminal and in lines elsewhere; with --json it is as 'sqlite3 \
      -json' prints it, which is nothing for no rows. Statements wait for a locked store as \
      --wait says. ~/.sqliterc is not read, so that its settings do not change what scripts get; \
      see --init. Files that the shell makes have mode 0600.

      vmckpt's SQLite extension is loaded where there is one: $VMCKPT_EXTENSION, else \
      vmckpt.so or libvmckptext.so beside the vmckpt program or in ../lib/vmckpt from there.

      The exit code is that of sqlite3; before it runs, vmckpt's own: 69 where sqlite3 is \
      not installed.

      EXAMPLES:
        vmckpt sql
        vmckpt sql 'SELECT * FROM snapshot_summary'
        vmckpt sql web/1 'SELECT * FROM overlay_stack WHERE snapshot = :snapshot'
        vmckpt sql --json 'SELECT name, tags FROM snapshot_summary'
        vmckpt sql --init ~/.sqliterc
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot, or the query.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var first: String?

  @Argument(help: ArgumentHelp("SQL, or one of the shell's dot-commands.", valueName: "query"))
  var second: String?

  @Option(
    name: .customLong("init"),
    help: ArgumentHelp("Read these SQL statements and dot-commands first.", valueName: "file"),
    completion: .file()
  )
  var initFile: String?

  @OptionGroup var common: CommonOptions

  /// Made by ArgumentParser.
  package init() {}

  /// The sqlite3 shell, with what the arguments ask for.
  package func program(in session: CommandSession) throws(VMCheckpointError) -> ProgramInvocation {
    let (reference, query) = try splitArguments()
    guard
      let path = ProgramInvocation.find("sqlite3", searchPath: session.environment["PATH"] ?? "")
    else {
      throw VMCheckpointError(
        .unavailable,
        "the program sqlite3 is not on the PATH",
        hint: "install it (Debian: apt-get install sqlite3)"
      )
    }
    var arguments = ["sqlite3", "-readonly", "-init", try checkedInitFile()]
    // On a terminal a mistyped line must not end the shell.
    if query != nil || !session.isTerminal(session.standardInput) {
      arguments += ["-batch", "-bail"]
    }
    arguments.append(
      common.json ? "-json" : session.isTerminal(session.standardOutput) ? "-box" : "-list"
    )
    arguments += ["-cmd", ".timeout \(Int(common.lockWaitSeconds) * 1000)"]
    if let library = try ShellExtension.find(in: session) {
      arguments += ["-cmd", ShellExtension.loadCommand(library)]
    }
    // vmckpt opens the store first. So it reports errors as other commands do, and undoes what a
    // crash left: a read-only shell could not undo that.
    let store = try common.openStore(in: session)
    try store.requireViews()
    if let argument = try snapshotArgument(reference, of: store) {
      arguments += ["-cmd", argument.shellLine]
    }
    // Absolute, so that it is neither an option nor one of SQLite's special names.
    arguments.append(store.filePath)
    if let query { arguments.append(query.utf8.first == UInt8(ascii: "-") ? "\n" + query : query) }
    var program = ProgramInvocation(path: path, arguments: arguments)
    // In the shell on a terminal, errors are for whoever types.
    program.reportsErrorsAsJSON = common.json && arguments.contains("-batch")
    return program
  }

  /// The REF and the query that the arguments are.
  private func splitArguments() throws(VMCheckpointError) -> (SnapshotReference?, String?) {
    guard let first else { return (nil, nil) }
    if let second { return (try SnapshotReference(first), try checked(second)) }
    if first.utf8.first != UInt8(ascii: "."), let reference = try? SnapshotReference(first) {
      return (reference, nil)
    }
    return (nil, try checked(first))
  }

  private func checked(_ query: String) throws(VMCheckpointError) -> String {
    guard query.contains(where: { !$0.isWhitespace }) else {
      throw VMCheckpointError(.invalidArgument, "the query is empty", hint: "give SQL")
    }
    return query
  }

  private func checkedInitFile() throws(VMCheckpointError) -> String {
    guard let initFile else { return "/dev/null" }
    guard ProgramInvocation.isFile(initFile) else {
      throw VMCheckpointError(
        .notFound,
        "there is no file \(quotedName(initFile))",
        hint: "give --init a file of SQL and dot-commands"
      )
    }
    return initFile
  }

  private func snapshotArgument(
    _ reference: SnapshotReference?,
    of store: Store
  ) throws(VMCheckpointError) -> QueryArgument? {
    if let reference { return try store.snapshotArgument(reference) }
    do {
      return try store.snapshotArgument(try SnapshotReference(SnapshotName.latest))
    } catch {
      // A store without a snapshot can be asked about other things.
      guard error.code == .notFound else { throw error }
      return nil
    }
  }
}

/// vmckpt's loadable extension for SQLite.
enum ShellExtension {
  static let entryPoint = "sqlite3_vmckpt_init"

  /// The extension's file, if there is one.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `notFound` when the environment names one that
  ///   is not there.
  static func find(in session: CommandSession) throws(VMCheckpointError) -> String? {
    if let path = session.environment["VMCKPT_EXTENSION"], !path.isEmpty {
      guard ProgramInvocation.isFile(path) else {
        throw VMCheckpointError(
          .notFound,
          "there is no file \(quotedName(path)), which VMCKPT_EXTENSION names",
          hint: "correct the variable, or unset it"
        )
      }
      // Without a slash, the loader would look in the system's directories.
      return path.utf8.contains(UInt8(ascii: "/")) ? path : "./" + path
    }
    guard let directory = ProgramInvocation.ownDirectory else { return nil }
    return [directory, "\(directory)/../lib/vmckpt"].lazy
      .flatMap { ["\($0)/vmckpt.so", "\($0)/libvmckptext.so"] }
      .first(where: ProgramInvocation.isFile)
  }

  /// The dot-command that loads the extension at `path`.
  static func loadCommand(_ path: String) -> String {
    ".load \"\(escaped(path))\" \(entryPoint)"
  }

  /// `text` for the shell's double quotes: what is not plainly harmless as octal escapes.
  static func escaped(_ text: String) -> String {
    text.utf8.map { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "/"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "-"):
        return String(UnicodeScalar(byte))
      default:
        let digits = String(byte, radix: 8)
        return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
      }
    }.joined()
  }
}
