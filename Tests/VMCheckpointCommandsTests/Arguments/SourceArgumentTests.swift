import Testing
import VMCheckpoint
import VMCheckpointCommands

@Suite struct SourceArgumentTests {
  @Test(arguments: [
    ("guest.ram", SourceArgument.file(path: "guest.ram")),
    ("-", .standardInput),
    ("./-", .file(path: "./-")),
    ("raw:guest.ram", .file(path: "guest.ram")),
    ("raw:-", .standardInput),
    ("raw:a:b", .file(path: "a:b")),
    ("propolis:a.tar", .propolis(path: "a.tar")),
    ("raw:a.tar", .file(path: "a.tar")),
    ("propolis:raw:-", .propolis(path: "raw:-")),
    ("/a:b", .file(path: "/a:b")),
    ("qemu-stream:-", .qemuStreamFromStandardInput),
    ("qemu-stream:a.migration", .qemuStream(path: "a.migration")),
    ("qemu:/run/web.qmp", .qemu(socketPath: "/run/web.qmp")),
    ("./qemu:x", .file(path: "./qemu:x")),
    ("9p:x", .file(path: "9p:x")),
    (":x", .file(path: ":x")),
    ("a b:x", .file(path: "a b:x")),
  ])
  func parses(text: String, expected: SourceArgument) throws {
    #expect(try SourceArgument(text, fileExists: { _ in false }) == expected)
  }

  @Test(arguments: ["qcow2:snap", "firecracker:a/b", "RAW:x", "x-2:y"])
  func refusesAnUnknownFormatByNamingTheKnown(text: String) {
    let scheme = text.prefix { $0 != ":" }
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "unknown format '\(scheme):' in SOURCE",
        hint: "known: raw:, propolis:, qemu-stream:, qemu:; write ./\(text) for a file of that name"
      )
    ) { try SourceArgument(text, fileExists: { _ in false }) }
  }

  @Test func anArchiveIsNotTakenForRAM() {
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "SOURCE \"web.tar\" looks like an archive and not like RAM",
        hint: "write propolis:web.tar for a snapshot of Propolis, or raw:web.tar for RAM"
      )
    ) { try SourceArgument("web.tar", fileExists: { _ in true }) }
  }

  @Test func aFileWhoseNameLooksLikeAFormatIsThatFile() throws {
    #expect(
      try SourceArgument("qcow2:snap", fileExists: { $0 == "qcow2:snap" })
        == .file(path: "qcow2:snap")
    )
  }

  @Test(arguments: ["", "raw:"])
  func refusesNothing(text: String) {
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "SOURCE is empty",
        hint: "give a RAM file's path, or -"
      )
    ) { try SourceArgument(text) }
  }
}
