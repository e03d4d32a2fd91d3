import Foundation
import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointProbes
import VMCheckpointTestSupport

/// The script of a restored directory must hand QEMU the recorded words byte for byte, whatever a
/// stranger has put into them, and run nothing else.
@Suite struct QEMURunScriptTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// What means something to a shell, what Unicode joins to the character before it, and more.
  private static let hostileScalars: [Unicode.Scalar] = [
    "'", "'", "\"", "\\", "$", "`", "!", "\n", "\r", "\t", " ", ",", ",", "=", "-", "/", ";",
    "&", "|", "(", ")", "{", "}", "*", "?", "~", "#", "\u{1}", "\u{7f}", "\u{85}", "\u{301}",
    "\u{301}",
    "\u{200d}", "\u{fe0f}", "\u{1f1e9}", "\u{ad}", "\u{2028}", "a", "é", "中", "\u{1f600}",
  ]

  private static func hostileText(_ generator: inout TestGenerator, minimum: Int = 0) -> String {
    var text = String.UnicodeScalarView()
    for _ in 0..<generator.int(minimum...12) {
      text.append(hostileScalars[generator.int(0...(hostileScalars.count - 1))])
    }
    return String(text)
  }

  /// Runs the script in a place of its own; returns what QEMU's stand-in was given. Nothing but the
  /// stand-in's own file may appear in the working directory.
  private func argumentsGiven(by script: String, _ extra: [String] = []) throws -> [String] {
    let place = try directory.subdirectory(UUID().uuidString)
    let workingDirectory = "\(place)/work"
    mkdir(workingDirectory, 0o700)
    try writeFile("\(place)/device.state", "")
    try writeFile("\(place)/run.sh", script)
    let outcome = try run(
      ["/usr/bin/env", "-C", workingDirectory, "/bin/bash", "\(place)/run.sh"] + extra,
      environment: ["OUT": "\(place)/out", "LC_ALL": "C.UTF-8"]
    )
    #expect(outcome.succeeded, "\(outcome)\n\(script)")
    #expect(directoryEntries(workingDirectory).isEmpty, "a stranger's command ran:\n\(script)")
    // Each argument ends in a NUL.
    return try readFile("\(place)/out").split(separator: 0, omittingEmptySubsequences: false)
      .dropLast().map { String(decoding: $0, as: UTF8.self) }
  }

  /// Prints its arguments, each with a NUL behind it.
  private func fakeQEMU() throws -> String {
    let path = directory.file("fake-\(UUID().uuidString)")
    try writeFile(path, "#!/bin/bash\nprintf '%s\\0' \"$@\" > \"$OUT\"\n")
    chmod(path, 0o700)
    return path
  }

  private func expectSame(_ actual: [String], _ expected: [String], _ script: String) {
    // `==` of strings takes what Unicode calls equivalent for equal.
    #expect(actual.map { Array($0.utf8) } == expected.map { Array($0.utf8) }, "\(script)")
  }

  @Test func aQuotationMarkWithAnAccentEndsNoWord() throws {
    let name = "'\u{301}; touch pwned; echo '\u{301}"
    let script = try QEMURunScriptProbe.text(commandLine: [fakeQEMU(), "-name", name])
    let given = try argumentsGiven(by: script)
    expectSame(Array(given.prefix(2)), ["-name", name], script)
  }

  @Test func randomWordsReachQEMUByteForByte() throws {
    var generator = TestGenerator(seed: 21)
    let fake = try fakeQEMU()
    for _ in 0..<soakRounds(40) {
      let words = (0..<6).map { _ in "x" + Self.hostileText(&generator) }
      let arguments = words.flatMap { ["-name", $0] }
      let machine = "q35" + Self.hostileText(&generator)
      let block = "pc.ram" + Self.hostileText(&generator).replacing("/", with: "")
      let script = try QEMURunScriptProbe.text(
        machine: machine,
        ramBlock: block,
        commandLine: [fake] + arguments
      )
      let given = try argumentsGiven(by: script)
      expectSame(Array(given.prefix(arguments.count)), arguments, script)
      let rest = given.dropFirst(arguments.count)
      guard rest.count == 6 else {
        Issue.record("\(rest.count) more arguments: \(script)")
        continue
      }
      let id = String(decoding: block.utf8.split(separator: 0x2f).last!, as: UTF8.self)
      func escaped(_ text: String) -> String {
        String(decoding: text.utf8.flatMap { $0 == 0x2c ? [0x2c, 0x2c] : [$0] }, as: UTF8.self)
      }
      let object = rest[rest.startIndex + 1]
      let prefix =
        "memory-backend-file,id=\(escaped(id)),size=4096,share=off"
        // The machine's name does not say how old its type is.
        + ",x-use-canonical-path-for-ramblock-id=\(block.utf8.contains(0x2f) ? "on" : "off"),mem-path="
      #expect(object.utf8.starts(with: prefix.utf8), "\(script)")
      expectSame(
        [rest[rest.startIndex], rest[rest.startIndex + 2], rest[rest.startIndex + 3]],
        ["-object", "-machine", "type=\(escaped(machine)),memory-backend=\(escaped(id))"],
        script
      )
    }
  }

  @Test func aRecordedDirectoryIsNoCommand() throws {
    var generator = TestGenerator(seed: 22)
    let fake = directory.file("pwd")
    try writeFile(fake, "#!/bin/bash\nprintf '%s\\0' \"$PWD\" > \"$OUT\"\n")
    chmod(fake, 0o700)
    for _ in 0..<20 {
      let name = "d" + Self.hostileText(&generator).replacing("/", with: "")
      // No slash may be left in it, not even one with an accent.
      guard !name.utf8.contains(0x2f) else { continue }
      let path = try directory.subdirectory(name)
      let script = try QEMURunScriptProbe.text(commandLine: [fake], workingDirectory: path)
      let place = try directory.subdirectory(UUID().uuidString)
      try writeFile("\(place)/device.state", "")
      try writeFile("\(place)/run.sh", script)
      let outcome = try run(["/bin/bash", "\(place)/run.sh"], environment: ["OUT": "\(place)/out"])
      #expect(outcome.succeeded, "\(outcome)\n\(script)")
      #expect(try readFile("\(place)/out").dropLast().elementsEqual(path.utf8), "\(script)")
    }
  }

  /// An option is known by its first byte.
  @Test func whatBelongsToTheOldVMIsLeftOut() throws {
    let fake = try fakeQEMU()
    let script = try QEMURunScriptProbe.text(
      ramBlock: "a,b",
      commandLine: [
        fake, "-S", "--incoming", "defer", "-object", "memory-backend-ram,id=a,,b,size=4096",
        "-object", "memory-backend-ram,id=a,b=1", "-name", "\u{301}-S",
      ]
    )
    let given = try argumentsGiven(by: script)
    expectSame(
      Array(given.prefix(4)),
      ["-object", "memory-backend-ram,id=a,b=1", "-name", "\u{301}-S"],
      script
    )
  }

  /// A command line that is not trusted is shown, and nothing of it is run: not by the shell that shows it
  /// either, nor may it move the terminal's cursor over what it says.
  @Test func whatIsNotTrustedIsOnlyShown() throws {
    var generator = TestGenerator(seed: 23)
    for round in 0..<soakRounds(40) {
      let words = (0..<4).map { _ in "x" + Self.hostileText(&generator) }
      let program = "q" + Self.hostileText(&generator)
      let trusts: [QEMURunScript.Trust] = [
        .none(.unusableKey(Self.hostileText(&generator))),
        .own(keyPath: "/absent" + Self.hostileText(&generator), fingerprint: "00"),
      ]
      let script = try QEMURunScriptProbe.text(
        commandLine: [program] + words.flatMap { ["-name", $0] },
        workingDirectory: "/" + Self.hostileText(&generator),
        trust: trusts[round % 2],
        disks: RecordedDisks([Self.disk("/" + Self.hostileText(&generator))])
      )
      let place = try directory.subdirectory(UUID().uuidString)
      try writeFile("\(place)/run.sh", script)
      let work = try directory.subdirectory(UUID().uuidString)
      let outcome = try run(
        ["/usr/bin/env", "-C", work, "/bin/bash", "\(place)/run.sh"],
        environment: ["LC_ALL": "C.UTF-8", "VMCKPT_WORKING_DIRECTORY": work]
      )
      #expect(outcome.ending == .exit(77), "\(outcome)\n\(script)")
      #expect(directoryEntries(work).isEmpty, "a stranger's command ran:\n\(script)")
      for word in words {
        let shown = "    " + quotedName(word, maximumScalarCount: .max) + "\n"
        #expect(outcome.standardError.contains(shown), "\(word)\n\(script)")
      }
      // The reason and the path of a key are this host's own.
      let body = outcome.standardError.drop { $0 != "\n" }.unicodeScalars
      #expect(
        body.allSatisfy { $0 == "\n" || !($0.properties.generalCategory == .control) },
        "\(outcome)"
      )
    }
  }

  /// The end of a long argument may be what matters of it.
  @Test func aLongCommandLineIsShownWhole() throws {
    let long = String(repeating: "x", count: 100_000) + "exec:evil"
    let script = try QEMURunScriptProbe.text(
      commandLine: ["qemu", "-name", long],
      trust: .none(.noProof)
    )
    let path = directory.file("run.sh")
    try writeFile(path, script)
    let outcome = try run(["/bin/bash", path])
    #expect(outcome.ending == .exit(77))
    #expect(outcome.standardError.contains("    \"\(long)\"\n"))
  }

  private static func disk(_ name: String) -> RecordedDisk {
    RecordedDisk(
      device: "d",
      node: "n",
      virtualByteCount: 1 << 20,
      images: [
        .init(
          name: name,
          format: "raw",
          identity: FileIdentity(byteCount: 1, modifiedNanoseconds: 2, inode: 3, device: 4)
        )
      ]
    )
  }

  /// Names of disks go through the script to the program that looks at them, and back into QEMU's options.
  @Test func namesOfDisksReachTheirCheckByteForByte() throws {
    var generator = TestGenerator(seed: 24)
    let fake = try fakeQEMU()
    let program = directory.file("vmckpt")
    try writeFile(
      program,
      "#!/bin/bash\nprintf '%s\\0' \"$@\" > \"$OUT.disks\"\ncat > \"$OUT.json\"\nexit ${CODE:-0}\n"
    )
    chmod(program, 0o700)
    for round in 0..<soakRounds(20) {
      let name = "/x" + Self.hostileText(&generator)
      let disks = RecordedDisks([Self.disk(name)])
      let escapedName = name.utf8.flatMap { $0 == 0x2c ? [0x2c, 0x2c] : [$0] }
      let option = "file=\(String(decoding: escapedName, as: UTF8.self)),id=d"
      let script = try QEMURunScriptProbe.text(
        commandLine: [fake, "-drive", option],
        disks: disks,
        diskProgram: program
      )
      let place = try directory.subdirectory(UUID().uuidString)
      let work = try directory.subdirectory(UUID().uuidString)
      try writeFile("\(place)/device.state", "")
      try writeFile("\(place)/run.sh", script)
      func runScript(_ mode: String, code: Int32 = 0) throws -> ProcessOutcome {
        try run(
          ["/usr/bin/env", "-C", work, "/bin/bash", "\(place)/run.sh", "--disks", mode],
          environment: [
            "OUT": "\(place)/out", "LC_ALL": "C.UTF-8", "TMPDIR": place, "CODE": "\(code)",
          ]
        )
      }
      // Whatever is found wrong, QEMU does not start.
      for mode in ["check", "overlay"] {
        #expect(try runScript(mode, code: 65).ending == .exit(65), "\(script)")
        #expect(!exists("\(place)/out"))
        #expect(!directoryEntries(place).contains { $0.hasPrefix("vmckpt-overlays") })
      }
      #expect(try runScript("check").succeeded, "round \(round)\n\(script)")
      #expect(try readFile("\(place)/out.disks").elementsEqual("__qemu-disks\0check\0".utf8))
      #expect(try RecordedDisks(json: readFile("\(place)/out.json")) == disks)
      let direct = try readFile("\(place)/out").split(separator: 0)
      #expect(direct[1].elementsEqual(option.utf8), "\(script)")
      unlink("\(place)/out")
      #expect(try runScript("overlay").succeeded, "\(script)")
      let overlaid = try readFile("\(place)/out").split(separator: 0)
      #expect(
        String(decoding: overlaid[1], as: UTF8.self)
          .hasPrefix("file=\(place)/vmckpt-overlays."),
        "\(script)"
      )
      #expect(overlaid[1].reversed().starts(with: "/disk.0,format=qcow2,id=d".utf8.reversed()))
      unlink("\(place)/out")
      unlink("\(place)/out.disks")
      #expect(try runScript("as-is").succeeded, "\(script)")
      #expect(!exists("\(place)/out.disks"))
      try waitUntil("the overlays are removed") {
        !directoryEntries(place).contains { $0.hasPrefix("vmckpt-overlays") }
      }
      #expect(directoryEntries(work).isEmpty, "a stranger's command ran:\n\(script)")
    }
  }

  @Test func aNULIsRefusedByName() throws {
    func message(_ body: () throws -> String) -> String? {
      do {
        _ = try body()
        return nil
      } catch { return (error as? VMCheckpointError)?.message }
    }
    #expect(
      message { try QEMURunScriptProbe.text(commandLine: ["qemu", "-name", "a\0b"]) }
        == "argument 2 of QEMU's command line has a NUL, which no script can hold"
    )
    #expect(
      message { try QEMURunScriptProbe.text(ramBlock: "a\0", commandLine: nil) }
        == "RAM block \"a\\u{0}\" has a NUL, which no script can hold"
    )
  }
}
