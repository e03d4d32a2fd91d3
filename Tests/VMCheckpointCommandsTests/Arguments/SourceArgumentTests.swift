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
        hint: "known: raw:, qemu-stream:, qemu:; write ./\(text) for a file of that name"
      )
    ) { try SourceArgument(text, fileExists: { _ in false }) }
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
