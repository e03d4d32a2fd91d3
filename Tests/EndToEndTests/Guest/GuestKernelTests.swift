import Testing
import VMCheckpointTestSupport

/// What SQL says of guests with other kernels, beside what these said themselves. Scripts/guest-kernels captures
/// them: one for every run of the tests, all that Debian has when it is asked.
@Suite(.guest) struct GuestKernelTests {
  @Test func noOtherKernelIsReadWrongly() throws {
    for image in try GuestKernelImages().images {
      let bench = try Workbench()
      try bench.tool.succeed("save", image.ram, "--region", image.region, "--name", image.name)
      let truth = try GuestTruth(image.truth)
      let tables: GuestTables
      do {
        tables = try GuestTables(ExtensionShell(bench.storePath), image.name)
      } catch {
        Issue.record("\(image.name): \(error)")
        continue
      }
      let results = GuestComparison(truth: truth, tables: tables).results
      for result in results {
        #expect(result.mistakes.isEmpty, "\(image.name): \(result.table)")
        #expect(result.rowCount > 0, "\(image.name): \(result.table)")
      }
      let rows = results.reduce(0) { $0 + $1.rowCount }
      let mistakes = results.reduce(0) { $0 + $1.mistakes.count }
      // Scripts/guest-kernels makes a table of these.
      print("KERNEL\t\(image.name)\t\(image.kernel)\t\(image.layout)\t\(rows)\t\(mistakes)")
    }
  }
}
