import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// A folder as a remote: its files, its times, and what strangers may have put there.
@Suite struct FolderTransportTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func transport(_ name: String = "r", lockWaitSeconds: Double = 60) throws
    -> FolderTransport
  {
    try FolderTransport(
      path: directory.file(name),
      makesFolder: true,
      cancellation: CancellationFlag(lockWaitSeconds: lockWaitSeconds)
    )
  }

  private func shell(_ script: String) -> Int32 {
    (try? run(["/bin/sh", "-c", script]))?.succeeded == true ? 0 : 1
  }

  private func mode(_ name: String) -> mode_t {
    var status = stat()
    return lstat(directory.file(name), &status) == 0 ? status.st_mode & 0o7777 : 0
  }

  @Test func objectsAreFilesOfTheirBytesThatNobodyElseReads() throws {
    let old = umask(0)
    defer { umask(old) }
    try transport().put("packs/ab/x", [1, 2, 3])
    #expect(try readFile(directory.file("r/packs/ab/x")) == [1, 2, 3])
    for file in ["r/packs/ab/x", "r/~vmckpt/times/packs/ab/x", "r/~vmckpt/lock", "r/~vmckpt/clock"]
    {
      #expect(mode(file) == 0o600, "\(file)")
    }
    for folder in ["r", "r/packs", "r/packs/ab", "r/~vmckpt", "r/~vmckpt/times", "r/~vmckpt/tmp"] {
      #expect(mode(folder) == 0o700, "\(folder)")
    }
  }

  /// The folder may be on another machine.
  @Test func aFolderIsWrittenToAtTheLimitedRate() throws {
    let transport = try FolderTransport(
      path: directory.file("r"),
      makesFolder: true,
      limitBytesPerSecond: 1_000_000
    )
    let start = monotonicSeconds()
    try transport.put("packs/ab/x", [UInt8](repeating: 1, count: 500_000))
    // A tenth of a second's bytes come at once.
    #expect(monotonicSeconds() - start > 0.35)
  }

  @Test func aDeletedObjectLeavesNothing() throws {
    let transport = try transport()
    try transport.put("packs/ab/x", [1])
    try transport.put("packs/ac/y", [1])
    try transport.delete("packs/ab/x")
    #expect(directoryEntries(directory.file("r/packs")) == ["ac"])
    #expect(directoryEntries(directory.file("r/~vmckpt/times/packs")) == ["ac"])
    try transport.delete("packs/ac/y")
    #expect(directoryEntries(directory.file("r")) == ["~vmckpt"])
    #expect(directoryEntries(directory.file("r/~vmckpt")) == ["clock", "lock", "times", "tmp"])
  }

  @Test func aCopiedFolderKeepsItsTimes() throws {
    try transport().put("a/b", [1])
    // A time in the past, as after weeks.
    try writeFile(directory.file("r/~vmckpt/times/a/b"), Array("001700000000\n".utf8))
    #expect(shell("cp -r '\(directory.file("r"))' '\(directory.file("copy"))'") == 0)
    let facts = try #require(try transport("copy").head("a/b"))
    #expect(facts.modifiedSeconds == 1_700_000_000)
    #expect(facts.serverSeconds > 1_700_000_000)
  }

  @Test func anObjectWithoutItsTimeWasNeverCommitted() throws {
    let transport = try transport()
    for record in [nil, "", "00170000000", "001700000000", "00170000000x\n", "9999999999999\n"] {
      try transport.put("a/b", [1])
      let path = directory.file("r/~vmckpt/times/a/b")
      if let record {
        try writeFile(path, Array(record.utf8))
      } else {
        unlink(path)
      }
      let facts = try #require(try transport.head("a/b"))
      #expect(!facts.isCommitted, "record \(record ?? "none")")
      #expect(facts.modifiedSeconds == .max)
      #expect(try transport.all().facts.map(\.isCommitted) == [false])
      #expect(try transport.get("a/b")?.facts.isCommitted == false)
    }
    // Putting it again commits it.
    #expect(try transport.put("a/b", [1]).isCommitted)
    #expect(try transport.head("a/b")?.isCommitted == true)
  }

  @Test func theClockDoesNotGoBackwards() throws {
    let transport = try transport()
    let first = try transport.put("a", [1])
    // What a host with a clock in the future wrote.
    let future = first.modifiedSeconds + 5000
    try writeFile(directory.file("r/~vmckpt/clock"), Array("00\(future)\n".utf8))
    #expect(try transport.put("b", [1]).modifiedSeconds == future)
    #expect(try transport.head("a")?.serverSeconds == future)
    // A damaged clock is the file system's again.
    try writeFile(directory.file("r/~vmckpt/clock"), Array("garbage".utf8))
    let after = try transport.put("c", [1])
    #expect(after.modifiedSeconds >= first.modifiedSeconds && after.modifiedSeconds < future)
  }

  @Test func noTimeIsShownWhileAnotherMakesAnObjectVisible() throws {
    let transport = try transport(lockWaitSeconds: 0.2)
    try transport.put("a", [1])
    let lock = open(directory.file("r/~vmckpt/lock"), O_RDWR | O_CLOEXEC)
    defer { close(lock) }
    #expect(flock(lock, LOCK_EX | LOCK_NB) == 0)
    for call: @Sendable () throws -> Void in [
      { _ = try transport.head("a") }, { _ = try transport.keys() },
      { try transport.put("b", [1]) }, { try transport.delete("a") },
    ] {
      #expect(throws: VMCheckpointError.self) { try call() }
    }
    // Pages come meanwhile.
    #expect(try transport.get("a")?.bytes == [1])
    flock(lock, LOCK_UN)
    #expect(try transport.keys() == ["a"])
    #expect(directoryEntries(directory.file("r/~vmckpt/tmp")).isEmpty)
  }

  @Test func aWaitForTheLockEndsWhenItIsCancelled() throws {
    let flag = CancellationFlag()
    let transport = try FolderTransport(
      path: directory.file("r"),
      makesFolder: true,
      cancellation: flag
    )
    try transport.put("a", [1])
    let lock = open(directory.file("r/~vmckpt/lock"), O_RDWR | O_CLOEXEC)
    defer { close(lock) }
    #expect(flock(lock, LOCK_EX | LOCK_NB) == 0)
    let waiting = ThreadResult<VMCheckpointError.Code?> {
      do {
        try transport.put("b", [1])
        return nil
      } catch { return (error as? VMCheckpointError)?.code }
    }
    flag.cancel()
    #expect(waiting.wait() == .cancelled)
  }

  @Test func linksAreNotFollowedOutOfTheFolder() throws {
    let transport = try transport()
    try transport.put("packs/x", [1])
    try writeFile(directory.file("secret"), [9])
    _ = try directory.subdirectory("outside")
    try writeFile(directory.file("outside/y"), [9])
    symlink(directory.file("secret"), directory.file("r/packs/link"))
    symlink(directory.file("outside"), directory.file("r/linked"))
    #expect(try transport.keys() == ["packs/x"])
    #expect(try transport.head("packs/link") == nil)
    #expect(try transport.get("packs/link") == nil)
    #expect(try transport.get("linked/y") == nil)
    #expect(try transport.keys("linked/") == [])
    #expect(throws: VMCheckpointError.self) { try transport.put("linked/z", [1]) }
    try transport.delete("linked/y")
    #expect(directoryEntries(directory.file("outside")) == ["y"])
    #expect(directoryEntries(directory.file("r")).contains("linked"))
    // A put takes the link's place, and not that of the file that it leads to.
    try transport.put("packs/link", [5])
    #expect(try readFile(directory.file("secret")) == [9])
    #expect(try transport.get("packs/link")?.bytes == [5])
  }

  @Test func hostileNamesAreNotListed() throws {
    let transport = try transport()
    try transport.put("packs/x", [1])
    for name in ["a b", "é", "\u{202E}x", "~y", "new\nline", "%2e"] {
      try writeFile(directory.file("r/packs/\(name)"), [1])
    }
    mkfifo(directory.file("r/packs/fifo"), 0o600)
    mkdir(directory.file("r/packs/empty"), 0o700)
    // Longer than a key can be.
    let deep = (0..<6).map { _ in String(repeating: "d", count: 200) }.joined(separator: "/")
    #expect(shell("cd '\(directory.file("r"))' && mkdir -p \(deep) && echo > \(deep)/x") == 0)
    #expect(try transport.keys() == ["packs/x"])
    #expect(try transport.get("packs/fifo") == nil)
    #expect(try transport.get("packs/empty") == nil)
  }

  @Test func aKeyCannotBeThePlaceOfOthers() throws {
    let transport = try transport()
    try transport.put("a/b", [1])
    for key in ["a", "a/b/c"] {
      let error = #expect(throws: VMCheckpointError.self) { try transport.put(key, [1]) }
      #expect(error?.code == .cannotCreate)
    }
    #expect(try transport.keys() == ["a/b"])
    #expect(try transport.get("a") == nil)
    try transport.delete("a")
    #expect(try transport.keys() == ["a/b"])
  }

  @Test func whatKilledPutsLeftGoesAway() throws {
    try transport().put("a", [1])
    let abandoned = directory.file("r/~vmckpt/tmp/\(UniqueID.make())")
    let beingWritten = directory.file("r/~vmckpt/tmp/\(UniqueID.make())")
    let another = directory.file("r/~vmckpt/tmp/notes")
    for file in [abandoned, beingWritten, another] { try writeFile(file, [1]) }
    let writer = open(beingWritten, O_RDWR | O_CLOEXEC)
    defer { close(writer) }
    #expect(flock(writer, LOCK_EX) == 0)
    try transport().put("b", [1])
    let left = directoryEntries(directory.file("r/~vmckpt/tmp"))
    #expect(
      left == [beingWritten, another].map { String($0.split(separator: "/").last!) }.sorted()
    )
  }

  @Test func aFolderThatCannotBeChangedIsRead() throws {
    let put = try transport().put("a/b", [1, 2])
    let (path, parent) = (directory.file("r"), directory.path)
    #expect(shell("chmod -R a+rX,a-w '\(path)' && chmod 0755 '\(parent)'") == 0)
    // As a user who has no rights beyond those that the modes give; of this thread alone.
    let result = ThreadResult<Result<[RemoteObjectFacts], any Error>> {
      if geteuid() == 0 { setFileSystemUser(OtherUser.identifier) }
      return Result {
        let transport = try FolderTransport(path: path)
        #expect(try transport.get("a/b")?.bytes == [1, 2])
        let error = #expect(throws: VMCheckpointError.self) { try transport.put("c", [1]) }
        #expect(error?.code == .permissionDenied)
        let head = try #require(try transport.head("a/b"))
        return [head] + (try transport.all().facts)
      }
    }
    let facts = try result.wait().get()
    #expect(shell("chmod -R u+w '\(path)'") == 0)
    // Time stands still there.
    #expect(facts == [put, put])
  }

  @Test func aMissingFolderIsNamed() throws {
    let path = directory.file("none")
    let error = #expect(throws: VMCheckpointError.self) { try FolderTransport(path: path) }
    #expect(error?.code == .notFound)
    #expect(error?.message.contains(path) == true)
    try writeFile(directory.file("file"), [1])
    let second = #expect(throws: VMCheckpointError.self) {
      try FolderTransport(path: directory.file("file"))
    }
    #expect(second?.code == .notFound)
  }

  @Test(.slow) func aFolderOfManyObjectsIsListedInOrder() throws {
    let transport = try transport()
    try transport.put("p/a", [1])
    let names = (0..<17_000).map { "n\(String($0 &* 2_654_435_761 % 1_000_003, radix: 36))" }
    for name in names {
      close(open(directory.file("r/p/\(name)"), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
    }
    let all = try transport.all("p/")
    #expect(all.facts.map(\.key.text) == (["a"] + Set(names)).map { "p/\($0)" }.sorted())
    #expect(all.batchCount == (Set(names).count + 1 + 999) / 1000)
  }
}

/// setfsuid(2), which Swift's Glibc module leaves out: for the calling thread alone.
private func setFileSystemUser(_ user: UInt32) {
  typealias Function = @convention(c) (UInt32) -> Int32
  let function = unsafeBitCast(dlsym(nil, "setfsuid"), to: Function.self)
  _ = function(user)
}
