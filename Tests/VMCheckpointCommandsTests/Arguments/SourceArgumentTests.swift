import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointFormats

@Suite struct SourceArgumentTests {
  @Test(
    arguments: [
      ("guest.ram", nil, "guest.ram"),
      ("-", nil, "-"),
      ("./-", nil, "./-"),
      ("raw:guest.ram", "raw", "guest.ram"),
      ("raw:-", "raw", "-"),
      ("raw:a:b", "raw", "a:b"),
      ("propolis:a.tar", "propolis", "a.tar"),
      ("raw:a.tar", "raw", "a.tar"),
      ("propolis:raw:-", "propolis", "raw:-"),
      ("/a:b", nil, "/a:b"),
      ("qemu-stream:-", "qemu-stream", "-"),
      ("qemu-stream:a.migration", "qemu-stream", "a.migration"),
      ("qemu:/run/web.qmp", "qemu", "/run/web.qmp"),
      ("./qemu:x", nil, "./qemu:x"),
      ("file:///srv/a.ram", nil, "/srv/a.ram"),
      ("cloud-hypervisor:file:///srv/web", "cloud-hypervisor", "/srv/web"),
      ("9p:x", nil, "9p:x"),
      (":x", nil, ":x"),
      ("a b:x", nil, "a b:x"),
    ] as [(String, String?, String)]
  )
  func parses(text: String, formatName: String?, path: String) throws {
    #expect(
      try SourceArgument(text, fileExists: { _ in false })
        == SourceArgument(formatName: formatName, path: path)
    )
  }

  @Test(arguments: ["qcow2:snap", "xen:a/b", "RAW:x", "x-2:y"])
  func refusesAnUnknownFormatByNamingTheKnown(text: String) {
    let scheme = text.prefix { $0 != ":" }
    let known = FormatRegistry.all.map { "\($0.name):" }.joined(separator: ", ")
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "unknown format '\(scheme):' in SOURCE",
        hint: "known: \(known); write ./\(text) for a file of that name"
      )
    ) { try SourceArgument(text, fileExists: { _ in false }) }
  }

  @Test func aFileWhoseNameLooksLikeAFormatIsThatFile() throws {
    #expect(
      try SourceArgument("qcow2:snap", fileExists: { $0 == "qcow2:snap" })
        == SourceArgument(formatName: nil, path: "qcow2:snap")
    )
  }

  @Test func refusesNothing() {
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "SOURCE is empty",
        hint: "give a RAM file's path, or -"
      )
    ) { try SourceArgument("") }
  }
}
