import Glibc
import Testing
import VMCheckpointTestSupport

/// Links of other users lead a save or a restore to where they wish.
@Suite(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
struct LinkOwnerTests {
  private let bench: Workbench
  private let shared: String
  private let ram = sampleRAM(8)

  init() throws {
    bench = try Workbench()
    let overlays = try bench.write(
      "o.json",
      #"{"format":1,"overlays":[{"kind":"hypercall","pfn":1,"variant":"vmcall"}]}"#
    )
    try bench.save("a", ram, "--overlays", overlays)
    shared = try bench.directory.subdirectory("shared")
    chmod(shared, 0o1777)
  }

  /// A link of the other user's in the shared directory.
  private func plant(_ name: String, to target: String) throws -> String {
    let link = "\(shared)/\(name)"
    symlink(target, link)
    try OtherUser.own(link)
    return link
  }

  private func expectRefused(
    _ link: String,
    _ arguments: [String],
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let binary = try VMCkptTool.path()
    expectFailure(
      try run([binary] + arguments),
      77,
      "another user (uid \(OtherUser.identifier)) owns the symbolic link \"\(link)\"; "
        + "give the path that it leads to, if you trust that user",
      sourceLocation: sourceLocation
    )
  }

  @Test func aLinkOfAnotherUserInASharedDirectoryIsNotFollowed() throws {
    let store = bench.storePath
    let victim = try bench.write("victim", ram)
    let file = try plant("file", to: victim)
    let missing = try plant("missing", to: bench.directory.file("made"))
    let database = try plant("db", to: store)
    let directory = try plant("directory", to: bench.directory.path)
    let overlays = try plant("json", to: bench.directory.file("o.json"))
    try expectRefused(database, ["list", "--store", database])
    try expectRefused(missing, ["save", victim, "--store", missing])
    try expectRefused(directory, ["list", "--store", "\(directory)/store.db"])
    try expectRefused(file, ["save", file, "--store", store])
    try expectRefused(file, ["save", "propolis:\(file)", "--store", store])
    try expectRefused(file, ["save", "qemu-stream:\(file)", "--store", store])
    try expectRefused(file, ["save", "qemu:\(file)", "--store", store])
    try expectRefused(overlays, ["save", victim, "--overlays", overlays, "--store", store])
    let out = bench.directory.file("out")
    for force in [[], ["--force"]] {
      let restore = ["restore", "a", "--store", store] + force
      try expectRefused(file, restore + ["-o", file])
      try expectRefused(file, restore + ["-o", out, "--overlays-out", file])
      try expectRefused(directory, restore + ["-o", "\(directory)/new"])
    }
    #expect(try readFile(victim) == ram)
    for name in ["made", "out", "new"] { #expect(!exists(bench.directory.file(name))) }
    #expect(try bench.tool.snapshotNames() == ["a"])
  }

  /// The one that leads to the file itself, wherever it is.
  @Test func theLastLinkOfAPathMustBeOnesOwnOrRoots() throws {
    let place = try bench.directory.subdirectory("place")
    let victim = try bench.write("victim", ram)
    let (file, directory) = ("\(place)/file", "\(place)/directory")
    symlink(victim, file)
    symlink(bench.directory.path, directory)
    for link in [file, directory] { try OtherUser.own(link) }
    try expectRefused(file, ["save", file, "--store", bench.storePath])
    try expectRefused(file, ["restore", "a", "--force", "-o", file, "--store", bench.storePath])
    #expect(try readFile(victim) == ram)
    // One of their directory is theirs to make.
    expectSuccess(try VMCkptTool(storePath: "\(directory)/store.db").run("list"))
    // A link may lead to a link.
    let own = bench.directory.file("own")
    symlink("place/file", own)
    try expectRefused(file, ["save", own, "--store", bench.storePath])
  }

  @Test func linksOfOnesOwnAreFollowed() throws {
    let target = try bench.write("target", "old")
    let file = "\(shared)/file"
    symlink(target, file)
    symlink(bench.storePath, "\(shared)/db")
    let tool = try VMCkptTool(storePath: "\(shared)/db")
    expectSuccess(try tool.run("restore", "a", "-o", file, "--overlays", "omit", "--force"))
    var status = stat()
    #expect(lstat(file, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
    #expect(try readFile(target) == ram)
    let saved = try tool.run("save", file, "--name", "b")
    #expect(saved.succeeded, "\(saved)")
  }

  /// The kernel's own links have no owner who could mean harm, and lead to what may have no path.
  @Test func aPipeUnderAKernelsNameIsRead() throws {
    let overlays = try bench.write("none.json", #"{"format":1,"overlays":[]}"#)
    let source = try bench.write("b.ram", ram)
    let command = bench.tool.commandLine([
      "save", "/dev/stdin", "--name", "b", "--overlays", "/dev/fd/9",
    ])
    let outcome = try run(
      ["/bin/sh", "-c", "exec \"$@\" < '\(source)' 9< '\(overlays)'", "sh"] + command
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try bench.restore("b") == ram)
  }
}
