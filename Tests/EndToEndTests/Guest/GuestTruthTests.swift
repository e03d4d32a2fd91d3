import Testing
import VMCheckpointTestSupport

/// What SQL says of a guest's kernel, beside what that kernel itself said shortly before the capture.
///
/// What changes meanwhile is named where it is compared (`GuestComparison`): the states of kernel threads,
/// workers that come and go, the memory of the shell that runs the guest, the console's position, and
/// connections whose last minute ends.
@Suite(.guest) struct GuestTruthTests {
  /// Both moments, saved once for all tests.
  private static let comparisons = Swift.Result<[GuestComparison], any Error> {
    let guest = try GuestImages()
    let bench = try Workbench()
    for (index, path) in guest.moments.enumerated() {
      try bench.tool.succeed("save", path, "--vm", "guest", "--name", "moment-\(index + 1)")
    }
    let shell = ExtensionShell(bench.storePath)
    return try guest.moments.enumerated().map { index, path in
      GuestComparison(
        truth: try GuestTruth(String(path.dropLast(3)) + "truth"),
        tables: try GuestTables(shell, "moment-\(index + 1)")
      )
    }
  }

  private func expectTruth(
    _ moment: Int,
    atLeast rowCount: Int,
    _ read: (GuestComparison) -> GuestComparison.Result,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let result = read(try Self.comparisons.get()[moment - 1])
    #expect(result.mistakes.isEmpty, "\(result.table)", sourceLocation: sourceLocation)
    #expect(result.rowCount >= rowCount, "\(result.table)", sourceLocation: sourceLocation)
  }

  @Test(arguments: [1, 2]) func noNameOfTheSystemIsMadeUp(moment: Int) throws {
    try expectTruth(moment, atLeast: 1) { $0.system }
  }

  @Test func noSymbolIsLostOrElsewhere() throws {
    try expectTruth(1, atLeast: 80_000) { $0.symbols }
  }

  @Test(arguments: [1, 2]) func noProcessIsMissingOrTakenForAnother(moment: Int) throws {
    try expectTruth(moment, atLeast: 60) { $0.processes }
  }

  @Test(arguments: [1, 2]) func noThreadIsMissingOrTakenForAnother(moment: Int) throws {
    try expectTruth(moment, atLeast: 65) { $0.threads }
  }

  @Test(arguments: [1, 2]) func noLineOfTheLogIsLost(moment: Int) throws {
    try expectTruth(moment, atLeast: 200) { $0.log }
  }

  @Test(arguments: [1, 2]) func noModuleIsLost(moment: Int) throws {
    try expectTruth(moment, atLeast: 4) { $0.modules }
  }

  @Test(arguments: [1, 2]) func noMountIsLostOrSomewhereElse(moment: Int) throws {
    try expectTruth(moment, atLeast: 20) { $0.mounts }
  }

  @Test(arguments: [1, 2]) func noOpenFileIsLostOrNamedWrongly(moment: Int) throws {
    try expectTruth(moment, atLeast: 150) { $0.files }
  }

  @Test(arguments: [1, 2]) func noMappingIsLostOrNamedWrongly(moment: Int) throws {
    try expectTruth(moment, atLeast: 900) { $0.mappings }
  }

  @Test(arguments: [1, 2]) func noSocketIsLostEvenIfNoProcessHoldsIt(moment: Int) throws {
    try expectTruth(moment, atLeast: 60) { $0.sockets }
  }

  @Test(arguments: [1, 2]) func noNetworkInterfaceOrAddressIsLost(moment: Int) throws {
    try expectTruth(moment, atLeast: 3) { $0.devices }
  }

  @Test(arguments: [1, 2]) func nothingOfAGuestThatWasPausedIsTakenForTorn(moment: Int) throws {
    try expectTruth(moment, atLeast: 1000) { $0.notes }
  }

  @Test func aQuestionAboutOneProcessGivesItsRowsAndNoOthers() throws {
    let bench = try Workbench()
    try bench.tool.succeed("save", GuestImages().moments[0], "--name", "one")
    let shell = ExtensionShell(bench.storePath)
    let pid = try shell.run("SELECT pid FROM guest_process('one') WHERE comm = 'zoo-sockets';")
    for table in ["guest_process", "guest_thread", "guest_file", "guest_mapping", "guest_socket"] {
      for comparison in ["= \(pid)", "BETWEEN \(pid) - 20 AND \(pid)", "> \(pid)"] {
        let asked = try shell.run("SELECT * FROM \(table)('one') WHERE pid \(comparison);")
        let sifted = try shell.run("SELECT * FROM \(table)('one') WHERE +pid \(comparison);")
        #expect(!asked.isEmpty && asked == sifted, "\(table) \(comparison)")
      }
      let plan = try shell.run(
        "EXPLAIN QUERY PLAN SELECT * FROM \(table)('one') WHERE pid = \(pid) ORDER BY pid;"
      )
      #expect(plan.contains("pid=?") && !plan.contains("TEMP B-TREE"), "\(table)")
    }
    // In the order of pid, those without come first.
    let first = "SELECT pid IS NULL, laddr IS NOT NULL OR path IS NOT NULL FROM guest_socket('one')"
    #expect(try shell.run("\(first) ORDER BY pid LIMIT 1;") == "1|1")
    #expect(try shell.run("\(first) WHERE pid IS NULL LIMIT 1;") == "1|1")
  }
}
