import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// A recorded command line is a program. One that this user did not record on this host must not run without being
/// asked for, wherever it comes from.
@Suite(.serialized, .guest) struct RecordedCommandTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Another user's, or another host's, state folder; it has no key yet.
  private var otherState: [String: String] {
    ["XDG_STATE_HOME": bench.directory.file("other-state")]
  }

  private func vmckpt(
    _ arguments: String...,
    environment: [String: String] = [:]
  ) throws -> ProcessOutcome {
    try run(bench.tool.commandLine(arguments), environment: environment)
  }

  /// Saves a machine and ends it.
  private func saveIdle(
    _ name: String,
    arguments: [String] = [],
    environment: [String: String] = [:]
  ) throws -> ProcessOutcome {
    let machine = try IdleMachine(name, in: bench.directory, arguments: arguments)
    let outcome = try vmckpt(
      "save",
      "qemu:\(machine.monitorPath)",
      "--name",
      name,
      "--json",
      environment: environment
    )
    try #require(outcome.succeeded, "\(outcome)")
    try machine.kill()
    return outcome
  }

  /// Restores a snapshot as a directory.
  private func restore(
    _ name: String,
    _ options: String...,
    environment: [String: String] = [:]
  ) throws -> (path: String, warnings: [String]) {
    let path = bench.directory.file("vm-\(UUID().uuidString)")
    let outcome = try run(
      bench.tool.commandLine(
        ["restore", name, "--format", "qemu", "-o", path, "--json"] + options
      ),
      environment: environment
    )
    try #require(outcome.succeeded, "\(outcome)")
    return (path, try outcome.jsonObject()["warnings"] as? [String] ?? [])
  }

  /// Runs a script that must refuse, and returns what it says.
  private func refusal(
    _ directory: String,
    _ arguments: String...,
    environment: [String: String] = [:]
  ) throws -> String {
    let place = try bench.directory.subdirectory(UUID().uuidString)
    let outcome = try run(
      ["\(directory)/run.sh"] + arguments,
      environment: ["VMCKPT_WORKING_DIRECTORY": place].merging(environment) { $1 }
    )
    #expect(outcome.ending == .exit(77), "\(outcome)")
    #expect(directoryEntries(place).isEmpty, "QEMU ran")
    return outcome.standardError
  }

  /// Runs a script that must run the machine.
  private func expectRuns(
    _ directory: String,
    _ arguments: [String] = [],
    environment: [String: String] = [:]
  ) throws {
    let machine = try IdleMachine(
      script: "\(directory)/run.sh",
      arguments: arguments,
      workingDirectory: try bench.directory.subdirectory(UUID().uuidString),
      environment: environment
    )
    _ = try machine.awaitRestored()
    try machine.kill()
  }

  private func trust(_ name: String, environment: [String: String] = [:]) throws -> String {
    let outcome = try vmckpt("show", name, "--json", environment: environment)
    let guest = try outcome.jsonObject()["qemu"] as? [String: Any]
    return guest?["command_trust"] as? String ?? "none: \(outcome)"
  }

  @Test(arguments: QEMURelease.allCases)
  func whatThisUserRecordedHereRuns(qemu: QEMURelease) throws {
    let machine = try IdleMachine("own", in: bench.directory, qemu: qemu)
    let saved = try bench.tool.json("save", "qemu:\(machine.monitorPath)", "--name", "own")
    #expect((saved["warnings"] as? [String])?.isEmpty == true)
    try machine.kill()
    let (path, warnings) = try restore("own")
    #expect(warnings.isEmpty)
    try expectRuns(path)
    #expect(try trust("own") == "own-record")
    let text = try bench.tool.run("show", "own").text
    #expect(text.contains("\n  Command line   recorded here by this user\n"), "\(text)")
  }

  /// The same store in the hands of another user, or on another host.
  @Test func anotherUserIsAsked() throws {
    _ = try saveIdle("a")
    #expect(try trust("a", environment: otherState) == "no-key")
    let (path, warnings) = try restore("a", environment: otherState)
    #expect(
      warnings == [
        "the recorded command line is not trusted, and run.sh will show it and not run it without "
          + "--trust-command: another user or host recorded it; this user has no key here"
      ]
    )
    let said = try refusal(path)
    #expect(
      said.hasPrefix(
        """
        run.sh: the recorded command line is not trusted: another user or host recorded it; this user has no \
        key here
        It is a program, and would run this:
            "/usr/bin/qemu-system-x86_64"
            "-nodefaults"

        """
      ),
      "\(said)"
    )
    #expect(
      said.hasSuffix(
        """
        in the folder "\(bench.directory.file("a"))"
        Read it. If you trust it, say so: run.sh --trust-command
        Or give a command line of your own: run.sh qemu-system-x86_64 ARGUMENTS...

        """
      ),
      "\(said)"
    )
    // More arguments for QEMU are no command line of one's own.
    _ = try refusal(path, "-name", "x")
    _ = try refusal(path, "--disks", "as-is")
    try expectRuns(path, ["--trust-command"])

    // With a key of that user's own.
    _ = try saveIdle("b", environment: otherState)
    #expect(try trust("a", environment: otherState) == "wrong-proof")
    #expect(try trust("b", environment: otherState) == "own-record")
    #expect(try trust("b") == "wrong-proof")
    _ = try refusal(restore("a", environment: otherState).path, environment: otherState)
    let asked = try restore("a", "--trust-command", environment: otherState)
    #expect(asked.warnings.isEmpty)
    try expectRuns(asked.path)
  }

  /// One's own command line needs nobody's trust, and nothing of the recorded one may come into it.
  @Test func aCommandLineOfOnesOwnRuns() throws {
    _ = try saveIdle("a", arguments: ["-name", "recorded"])
    let (path, _) = try restore("a", environment: otherState)
    let fake = try bench.write("fake", "#!/bin/bash\nprintf '%s\\n' \"$PWD\" \"$@\"\n")
    chmod(fake, 0o700)
    let outcome = try run(
      ["/usr/bin/env", "-C", bench.directory.path, "\(path)/run.sh", fake, "-own"]
    )
    #expect(outcome.succeeded, "\(outcome)")
    let words = outcome.text.split(separator: "\n").map(String.init)
    #expect(words.prefix(3) == [bench.directory.path, "-own", "-object"])
    #expect(!words.contains("recorded"))
  }

  /// The directory of a trusted machine, copied to another user or host. It is a script, and its new owner can
  /// read it; but it must not run by itself what was recorded elsewhere.
  @Test func aCopiedDirectoryAsksWhereTheKeyIsNot() throws {
    _ = try saveIdle("a")
    let key = bench.directory.file("state/vmckpt/command-key")
    let own = ["XDG_STATE_HOME": bench.directory.file("state")]
    _ = try saveIdle("b", environment: own)
    let (path, _) = try restore("b", environment: own)
    try expectRuns(path, environment: own)
    let bytes = try readFile(key)
    #expect(bytes.count == 32)
    #expect(try !readFile("\(path)/run.sh").contains(bytes))
    rename(key, key + ".away")
    let said = try refusal(path)
    #expect(said.contains("it was recorded by another user or on another host"), "\(said)")
    try writeFile(key, [UInt8](repeating: 1, count: 32))
    chmod(key, 0o600)
    _ = try refusal(path)
    rename(key + ".away", key)
    try expectRuns(path)
    if OtherUser.isThere {
      // As if root ran what another user restored.
      try OtherUser.own(key)
      _ = try refusal(path)
    }
  }

  /// Whoever can write to the store puts another command line into it, and all digests right.
  @Test func anEditedCommandLineIsNotRun() throws {
    _ = try saveIdle("a", arguments: ["-name", "innocent"])
    #expect(try trust("a") == "own-record")
    let edit = try bench.write("edit.py", Self.editingProgram)
    let outcome = try run(
      ["/usr/bin/env", "python3", edit, bench.storePath, #""innocent""#, #""pwned(&)""#]
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try bench.tool.verify().succeeded)
    #expect(try trust("a") == "wrong-proof")
    let (path, warnings) = try restore("a")
    #expect(warnings.count == 1)
    let said = try refusal(path)
    #expect(said.contains("    \"pwned(&)\"\n"), "\(said)")
    #expect(said.contains("another user or host recorded it, or it was changed since"))
    // Without its proof it is what an older vmckpt saved.
    let removal = try run(
      ["/usr/bin/env", "python3", edit, bench.storePath, "command_line_proof", "no_proof"]
    )
    #expect(removal.succeeded, "\(removal)")
    #expect(try trust("a") == "no-proof")
    #expect(try refusal(restore("a").path).contains("it has no proof of who recorded it"))
  }

  /// Replaces text in the machine's description, and computes what is computed of it anew, as Schema/README.md and
  /// the format's article describe it.
  private static let editingProgram = """
    import hashlib, sqlite3, subprocess, sys
    store, old, new = sys.argv[1:]
    db = sqlite3.connect(store)
    encoding, data = db.execute(
        "SELECT encoding, data FROM device_state WHERE name = 'qemu-machine'").fetchone()
    if encoding == 'lz4':
        data = subprocess.run(['lz4', '-d', '-c'], input=data, capture_output=True, check=True).stdout
    assert data.count(old.encode()) == 1, data
    data = data.replace(old.encode(), new.encode())
    db.execute("UPDATE device_state SET encoding = 'raw', data = ?, bytes = ?, sha256 = ?"
               " WHERE name = 'qemu-machine'", (data, len(data), hashlib.sha256(data).digest()))
    lines = ['vmckpt snapshot 1']
    for row in db.execute('SELECT gpa, bytes, file_offset, name FROM memory_region ORDER BY gpa'):
        lines.append('region %d %d %d %s' % row)
    lines.append('ram ' + db.execute('SELECT hex(ram_digest) FROM snapshot').fetchone()[0].lower())
    for row in db.execute('SELECT lower(hex(sha256)), bytes, version, format, name'
                          ' FROM device_state ORDER BY position'):
        lines.append('device %s %d %d %s %s' % row)
    digest = hashlib.sha256(''.join(line + '\\n' for line in lines).encode()).digest()
    db.execute('UPDATE snapshot SET digest = ?', (digest,))
    db.commit()

    """

  /// A key that others may have read proves nothing; a save must say so, and succeed.
  @Test func aKeyThatOthersCanReadIsNotUsed() throws {
    let own = ["XDG_STATE_HOME": bench.directory.file("state")]
    let key = bench.directory.file("state/vmckpt/command-key")
    _ = try saveIdle("a", environment: own)
    #expect(try trust("a", environment: own) == "own-record")
    chmod(key, 0o644)
    #expect(try trust("a", environment: own) == "unusable-key")
    let problem = "others may read or change the key \"\(key)\" (mode 0644)"
    let said = try refusal(restore("a", environment: own).path, environment: own)
    #expect(said.contains("this user's key cannot be used: \(problem)"), "\(said)")
    let saved = try saveIdle("b", environment: own)
    let warnings = try saved.jsonObject()["warnings"] as? [String]
    #expect(
      warnings?.first?.hasPrefix(
        "the recorded command line has no proof that it is this user's, and needs --trust-command "
          + "to run: \(problem); remove it"
      ) == true,
      "\(saved)"
    )
    chmod(key, 0o600)
    #expect(try trust("a", environment: own) == "own-record")
    #expect(try trust("b", environment: own) == "no-proof")
  }

  /// What another user's process shows as its command line it may have written there itself: root must not make
  /// it root's own by saving that VM.
  @Test(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
  func anotherUsersQEMUGetsNoProof() throws {
    let place = try bench.directory.subdirectory("other")
    chmod(bench.directory.path, 0o711)
    try OtherUser.own(place)
    let process = try ChildProcess(
      OtherUser.commandLine([
        "/usr/bin/env", "-C", place, try QEMURelease.system.program(), "-nodefaults",
        "-no-user-config", "-display", "none", "-machine", "q35,accel=tcg", "-m", "16M", "-S",
        "-qmp", "unix:qmp,server=on,wait=off", "-qmp", "unix:qmp2,server=on,wait=off",
      ])
    )
    _ = try QMPConnection(path: "\(place)/qmp2")
    let saved = try bench.tool.json("save", "qemu:\(place)/qmp", "--name", "a")
    process.send(9)
    let warnings = saved["warnings"] as? [String]
    #expect(warnings?.first?.hasSuffix("to run: QEMU runs as another user") == true, "\(saved)")
    #expect(try trust("a") == "no-proof")
    _ = try refusal(restore("a").path)
  }

  @Test func theOptionIsForOneFormat() throws {
    try bench.save("raw", sampleRAM(4))
    let outcome = try vmckpt("restore", "raw", "-o", "x", "--trust-command")
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(outcome.standardError.contains("--trust-command goes with --format qemu"))
  }
}
