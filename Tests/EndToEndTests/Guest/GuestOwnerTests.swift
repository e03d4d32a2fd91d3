import Testing
import VMCheckpointTestSupport

/// Whose the pages of a real guest are, in SQL.
@Suite(.serialized, .guest) struct GuestOwnerTests {
  private let bench: Workbench
  private let shell: ExtensionShell

  init() throws {
    let guest = try GuestImages()
    bench = try Workbench()
    shell = ExtensionShell(bench.storePath)
    for (index, moment) in guest.moments.enumerated() {
      expectSuccess(try bench.tool.run("save", moment, "--vm", "guest", "--name", "m\(index + 1)"))
    }
  }

  /// Nothing here was read from anywhere but RAM: the two ways to a byte must agree.
  @Test func pagesOfProcessesAreWhatTheseSee() throws {
    let counts = try shell.run(
      """
      SELECT count(*) > 1000, sum(page_data('m1', pfn) IS NOT guest_read('m1', pid, va, 4096))
        FROM guest_page('m1') WHERE va IS NOT NULL;
      """
    )
    #expect(counts == "1|0")
    let banner = try shell.run(
      """
      SELECT guest_read('m1', 0, va, 14), ram_read('m1', gpa, 14) FROM guest_symbol('m1')
       WHERE name = 'linux_banner';
      """
    )
    #expect(banner == "Linux version |Linux version ")
  }

  @Test func nearlyAllPagesThatAreNotZeroAreExplained() throws {
    let share = try shell.run(
      """
      SELECT 100 * sum(g.class NOT IN ('other', 'unknown')) / count(*)
        FROM ram_page('m1') r JOIN guest_page('m1') g USING (pfn) WHERE r.digest IS NOT NULL;
      """
    )
    let explained = try #require(Int(share))
    #expect(explained >= 97)
    // A process may end, or a file go, while its pages are still there: a few have no owner.
    let shares = try shell.run(
      """
      SELECT 100 * count(pid) / count(*) FROM guest_page('m1') WHERE class = 'anonymous';
      SELECT 100 * count(file) / count(*) FROM guest_page('m1') WHERE class = 'file';
      SELECT 100 * count(owner) / count(*) FROM guest_page('m1') WHERE class = 'slab';
      """
    ).split(separator: "\n").compactMap { Int($0) }
    #expect(shares.count == 3 && shares.allSatisfy { $0 >= 98 }, "\(shares)")
  }

  @Test func theOwnersBeforeAreThoseOfTheEarlierMoment() throws {
    let counts = try shell.run(
      """
      SELECT count(*) > 1000, sum(c.class_before IS NOT a.class), sum(c.class IS NOT b.class),
             sum(c.class_before <> c.class) > 100
        FROM guest_change('m1', 'm2') c JOIN guest_page('m1') a ON a.pfn = c.pfn
        JOIN guest_page('m2') b ON b.pfn = c.pfn;
      """
    )
    #expect(counts == "1|0|0|1")
  }

  @Test func whatChangedIsSaidByOwner() throws {
    // The guest's script unpacks archives into a heap of awk's and into files.
    let rows = try shell.run(
      """
      SELECT count(*), sum(class = 'anonymous' AND owner = 'awk') > 1000, sum(class = 'file') > 1000
        FROM guest_change('m1', 'm2');
      SELECT count(*) FROM ram_diff('m1', 'm2');
      """
    ).split(separator: "\n")
    #expect(rows[0] == "\(rows[1])|1|1")
    let grown = try shell.run(
      """
      SELECT b.comm FROM guest_process('m1') a JOIN guest_process('m2') b USING (pid, start_ns)
       ORDER BY b.rss_pages - a.rss_pages DESC LIMIT 1;
      """
    )
    #expect(grown == "awk")
  }

  /// Both have a note on the first row where something is missing; here nothing is.
  @Test func pagesAndTheirChangesOfAWholeGuestHaveNoNote() throws {
    for table in ["guest_page('m1')", "guest_change('m1', 'm2')"] {
      #expect(try shell.run("SELECT count(*) > 1000, count(note) FROM \(table);") == "1|0")
    }
    let outcome = try bench.tool.run("diff", "m1", "m2", "--who")
    #expect(outcome.standardError == "", "\(outcome.standardError)")
  }

  @Test func questionsOfOneProcessAndWithOrAreAnswered() throws {
    let rows = try shell.run(
      """
      SELECT comm FROM guest_process('m1') WHERE pid = 1;
      SELECT count(*) FROM guest_process('m1') WHERE pid = 1 OR comm = 'kthreadd' OR pid = 999999;
      SELECT count(*) FROM ram_page('m1') WHERE pfn = 1 OR pfn = 2;
      SELECT count(*) FROM guest_process('m1') p WHERE p.pid > 1 AND p.pid <= 3;
      SELECT machine, missing IS NULL FROM guest_os('m2');
      SELECT size FROM guest_struct('m1') WHERE type = 'list_head' AND member IS NULL;
      SELECT guest_read('m1', 1, 0, 1) IS NULL, guest_read('m1', 999999, 4096, 1) IS NULL;
      """
    )
    #expect(rows.split(separator: "\n") == ["init", "2", "2", "2", "x86_64|1", "16", "1|1"])
  }

  @Test func aGuestWithoutAKernelIsAnError() throws {
    try bench.save("blank", sampleRAM(64))
    let message = try shell.failure("SELECT count(*) FROM guest_process('blank');")
    #expect(message.contains("no 64-bit Linux kernel was found"), "\(message)")
    #expect(try shell.run("SELECT missing LIKE 'no 64-bit%' FROM guest_os('blank');") == "1")
  }
}
