import Foundation
import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointTestSupport

/// A recorded command line is a program: what this user did not record on this host must never run as if it
/// were so.
@Suite struct CommandTrustTests {
  private let directory: TemporaryDirectory
  private let folder: UserStateFolder
  private let stream: [UInt8] = [1, 2, 3]

  init() throws {
    directory = try TemporaryDirectory()
    folder = UserStateFolder(path: directory.file("state/vmckpt"))
  }

  private var keyPath: String { "\(folder.path)/command-key" }

  /// A record that this user made.
  private func ownRecord(
    _ commandLine: [String] = ["qemu", "-name", "a"]
  ) throws -> QEMUMachineRecord {
    var record = QEMUMachineRecord(
      machine: "q35",
      ramBlocks: [.init(name: "pc.ram", byteCount: 4096)],
      ramOffset: 6
    )
    record.commandLine = commandLine
    record.workingDirectory = "/"
    let key = try CommandKey.loadOrMake(in: folder)
    RecordedCommand.prove(&record, stream: stream, with: key)
    return record
  }

  private func trust(
    _ record: QEMUMachineRecord,
    stream: [UInt8]? = nil,
    folder: UserStateFolder? = nil
  ) -> CommandTrust {
    RecordedCommand.trust(
      of: record,
      stream: stream ?? self.stream,
      folder: folder ?? self.folder
    )
  }

  @Test func whatThisUserRecordedIsTrusted() throws {
    #expect(try trust(ownRecord()) == .ownRecord)
  }

  @Test func noEditOfARecordIsTrusted() throws {
    let record = try ownRecord()
    let edits: [(inout QEMUMachineRecord) -> Void] = [
      { $0.commandLine = ["qemu", "-name", "b"] },
      { $0.commandLine = ["qemu", "-name", "a", ""] },
      { $0.commandLine = ["qemu", "-namea"] },
      { $0.commandLine = ["qemu", "-name", "a\u{301}"] },
      { $0.workingDirectory = nil },
      { $0.workingDirectory = "/tmp" },
    ]
    for (index, edit) in edits.enumerated() {
      var edited = record
      edit(&edited)
      #expect(trust(edited) == .untrusted(.wrongProof), "edit \(index)")
    }
    #expect(trust(record, stream: [1, 2]) == .untrusted(.wrongProof))
    for (machine, block, byteCount, offset) in [
      ("pc", "pc.ram", 4096, 6), ("q35", "pc.ra", 4096, 6), ("q35", "pc.ram", 8192, 6),
      ("q35", "pc.ram", 4096, 7),
    ] {
      var other = QEMUMachineRecord(
        machine: machine,
        ramBlocks: [.init(name: block, byteCount: UInt64(byteCount))],
        ramOffset: offset
      )
      other.commandLine = record.commandLine
      other.workingDirectory = record.workingDirectory
      other.commandLineProof = record.commandLineProof
      #expect(trust(other) == .untrusted(.wrongProof), "\(machine) \(block) \(byteCount) \(offset)")
    }
  }

  /// What one argument ends with must not be able to become what the next one begins with.
  @Test func argumentsCannotBeCutElsewhere() throws {
    var record = try ownRecord(["qemu", "ab", "c"])
    record.commandLine = ["qemu", "a", "bc"]
    #expect(trust(record) == .untrusted(.wrongProof))
  }

  @Test func aProofThatIsNotOneIsNotTrusted() throws {
    let record = try ownRecord()
    let proof = try #require(record.commandLineProof)
    for wrong in ["", "0", String(proof.dropLast()), proof + "0", proof.uppercased(), "\0" + proof]
    {
      var edited = record
      edited.commandLineProof = wrong
      #expect(trust(edited) == .untrusted(.wrongProof), "\(wrong)")
    }
    var unproved = record
    unproved.commandLineProof = nil
    #expect(trust(unproved) == .untrusted(.noProof))
    unproved.commandLine = nil
    #expect(trust(unproved) == .untrusted(.notRecorded))
    unproved.commandLine = []
    #expect(trust(unproved) == .untrusted(.notRecorded))
  }

  @Test func anotherUsersKeyProvesNothing() throws {
    let record = try ownRecord()
    let other = UserStateFolder(path: directory.file("other/vmckpt"))
    #expect(trust(record, folder: other) == .untrusted(.noKey))
    _ = try CommandKey.loadOrMake(in: other)
    #expect(trust(record, folder: other) == .untrusted(.wrongProof))
    #expect(trust(record) == .ownRecord)
    // Nothing but a save makes a key.
    unlink(keyPath)
    #expect(trust(record) == .untrusted(.noKey))
    #expect(!exists(keyPath))
  }

  private func expectUnusable(_ record: QEMUMachineRecord, _ words: String) {
    guard case .untrusted(.unusableKey(let problem?)) = trust(record) else {
      Issue.record("\(words): \(trust(record))")
      return
    }
    #expect(problem.contains(words), "\(problem)")
    #expect(throws: VMCheckpointError.self, "\(words)") { try CommandKey.loadOrMake(in: folder) }
  }

  /// Who may have read the key can prove anything.
  @Test(arguments: [0o644, 0o640, 0o604, 0o660, 0o601, 0o4777] as [mode_t])
  func aKeyThatOthersMayReadIsNotUsed(mode: mode_t) throws {
    let record = try ownRecord()
    chmod(keyPath, mode)
    let octal = String(mode, radix: 8)
    expectUnusable(record, "(mode \(octal.count < 4 ? "0" : "")\(octal))")
    chmod(keyPath, 0o600)
    #expect(trust(record) == .ownRecord)
  }

  @Test func aFolderThatOthersMayChangeIsNotUsed() throws {
    let record = try ownRecord()
    for mode in [0o777, 0o720, 0o702] as [mode_t] {
      chmod(folder.path, mode)
      expectUnusable(record, "can be changed by other users (mode 0\(String(mode, radix: 8)))")
    }
  }

  @Test func aFileThatIsNoKeyIsNotUsed() throws {
    let record = try ownRecord()
    let key = try readFile(keyPath)
    for bytes in [[], Array(key.dropLast()), key + [0], [UInt8](repeating: 7, count: 1 << 20)] {
      try writeFile(keyPath, bytes)
      expectUnusable(record, "does not have 32 bytes")
    }
    unlink(keyPath)
    symlink("/dev/zero", keyPath)
    expectUnusable(record, "Too many levels of symbolic links")
    unlink(keyPath)
    mkfifo(keyPath, 0o600)
    expectUnusable(record, "is not a regular file")
    unlink(keyPath)
    mkdir(keyPath, 0o700)
    expectUnusable(record, "is not a regular file")
  }

  @Test func aLinkInPlaceOfTheFolderIsNotFollowed() throws {
    let record = try ownRecord()
    let elsewhere = directory.file("elsewhere")
    rename(folder.path, elsewhere)
    symlink(elsewhere, folder.path)
    expectUnusable(record, "it is not a folder")
  }

  @Test(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
  func aKeyThatAnotherUserOwnsIsNotUsed() throws {
    let record = try ownRecord()
    try OtherUser.own(keyPath)
    expectUnusable(record, "belongs to another user (uid \(OtherUser.identifier))")
    try OtherUser.own(folder.path)
    expectUnusable(record, "belongs to another user (uid \(OtherUser.identifier))")
  }

  /// Two saves that each made a key would each make the other's proof worthless.
  @Test func processesThatMakeTheKeyAtOnceAgree() async throws {
    let (folder, stream, record) = (folder, stream, try ownRecord())
    for _ in 0..<soakRounds(5) {
      unlink(keyPath)
      let proofs = try await withThrowingTaskGroup(of: String?.self) { group in
        for _ in 0..<8 {
          group.addTask {
            var own = record
            RecordedCommand.prove(
              &own,
              stream: stream,
              with: try CommandKey.loadOrMake(in: folder)
            )
            return own.commandLineProof
          }
        }
        return try await group.reduce(into: Set<String?>()) { $0.insert($1) }
      }
      #expect(proofs.count == 1)
      #expect(directoryEntries(folder.path) == ["command-key"])
      var status = stat()
      #expect(stat(keyPath, &status) == 0 && status.st_mode & 0o7777 == 0o600)
      #expect(stat(folder.path, &status) == 0 && status.st_mode & 0o7777 == 0o700)
    }
  }

  @Test func aNewKeyIsNotTheOldOne() throws {
    let record = try ownRecord()
    unlink(keyPath)
    _ = try CommandKey.loadOrMake(in: folder)
    #expect(trust(record) == .untrusted(.wrongProof))
  }

  // MARK: The folder

  @Test func aRelativeStateHomeIsIgnored() throws {
    let home = try directory.subdirectory("home")
    let folder = try UserStateFolder(environment: ["XDG_STATE_HOME": "state", "HOME": home])
    #expect(folder.path == "\(home)/.local/state/vmckpt")
    let state = directory.file("not yet/state")
    let given = try UserStateFolder(environment: ["XDG_STATE_HOME": state, "HOME": home])
    #expect(given.path == "\(state)/vmckpt")
  }

  /// With `sudo -E` root has the variables of whoever called it.
  @Test(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
  func rootsKeyIsNotMadeInAnotherUsersHome() throws {
    let home = try directory.subdirectory("home")
    try OtherUser.own(home)
    let folder = try UserStateFolder(
      environment: ["XDG_STATE_HOME": "\(home)/.state", "HOME": home]
    )
    #expect(!folder.path.hasPrefix(home), "\(folder.path)")
  }
}
