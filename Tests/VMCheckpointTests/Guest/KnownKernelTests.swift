import Foundation
import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointTestSupport

/// Kernels that were found before are found without a search, and whatever is in their folder, the answers are
/// those of a search.
@Suite struct KnownKernelTests {
  private let directory: TemporaryDirectory
  private let folder: KnownKernelFolder
  private let guest = SyntheticGuest()

  init() throws {
    directory = try TemporaryDirectory()
    folder = KnownKernelFolder(path: directory.file("cache/vmckpt/kernels"))
  }

  /// Finds the kernel and reads its processes; says whether all of RAM was gone through for it.
  private func search(_ guest: SyntheticGuest? = nil) throws -> (isSearch: Bool, comms: [String]) {
    let ram = try FlatGuestRAM((guest ?? self.guest).ram)
    let system = try GuestSystem.find(in: ram, known: folder)
    let kernel = try #require(system.kernel, "\(system.missing ?? "")")
    #expect(system.wasKnown == (ram.visitCount == 0))
    #expect(kernel.symbols.address(of: "function_1234") != nil)
    return (ram.visitCount > 0, try kernel.processes().map { $0.comm ?? "" })
  }

  private var files: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
  }

  private static let comms = ["init", "kthreadd", "worker"]

  @Test(arguments: KallsymsBuilder.Form.allCases)
  func theSecondGuestWithAKernelIsNotSearched(form: KallsymsBuilder.Form) throws {
    let guest = SyntheticGuest(form)
    #expect(try search(guest) == (true, Self.comms))
    #expect(try search(guest) == (false, Self.comms))
    #expect(files.count == 1)
    let another: KallsymsBuilder.Form = form == .before ? .after : .before
    #expect(try search(SyntheticGuest(another)).isSearch, "another kernel is not taken for it")
    #expect(files.count == 2)
  }

  @Test func filesAreTheUsersAlone() throws {
    _ = try search()
    let name = try #require(files.first)
    for (path, mode) in [
      ("cache", 0o700), ("cache/vmckpt", 0o700), ("cache/vmckpt/kernels", 0o700),
    ]
      + [("cache/vmckpt/kernels/\(name)", 0o600)]
    {
      let found = try FileManager.default.attributesOfItem(atPath: directory.file(path))
      #expect(found[.posixPermissions] as? Int == mode, "\(path)")
    }
  }

  @Test func noHomeIsMadeForAUserWhoHasNone() throws {
    let home = directory.file("nobody")
    let nowhere = KnownKernelFolder(path: "\(home)/.cache/vmckpt/kernels")
    _ = try GuestSystem.find(in: FlatGuestRAM(guest.ram), known: nowhere)
    #expect(!exists(home))
    try #require(mkdir(home, 0o700) == 0)
    _ = try GuestSystem.find(in: FlatGuestRAM(guest.ram), known: nowhere)
    #expect(exists(nowhere.path))
  }

  @Test(.slow) func damagedFilesGiveTheAnswerOfASearch() throws {
    _ = try search()
    let path = "\(folder.path)/\(try #require(files.first))"
    let whole = try readFile(path)
    #expect(whole.count == KnownKernel.byteCount)
    var variants: [[UInt8]] = [[], Array(whole.dropLast()), whole + [0], Array("hello".utf8)]
    for index in stride(from: 0, to: whole.count, by: 5) {
      variants.append(whole)
      variants[variants.count - 1][index] ^= 0x10
    }
    for variant in variants {
      try writeFile(path, variant)
      #expect(try search() == (true, Self.comms), "\(variant)")
      // What was damaged is whole again.
      #expect(try readFile(path) == whole)
    }
    #expect(try search() == (false, Self.comms))
  }

  @Test func placesThatAreWrongGiveTheAnswerOfASearch() throws {
    _ = try search()
    let name = try #require(files.first)
    let anchor = try #require(folder.anchors().first)
    let right = try #require(folder.kernel(anchor))
    for (offset, distance) in [
      (right.indexOffset ^ 4, right.typesDistance), (right.indexOffset, 0),
      (right.indexOffset, right.typesDistance + 4), (right.indexOffset, -(1 << 29)),
      (right.indexOffset, 1 << 29), (0, -1),
    ] {
      folder.keep(KnownKernel(anchor: anchor, indexOffset: offset, typesDistance: distance))
      #expect(folder.kernel(anchor) != right)
      #expect(try search() == (true, Self.comms))
      #expect(folder.kernel(anchor) == right && files == [name])
    }
    // Distances that no kernel has are refused at once.
    let far = KnownKernel(anchor: anchor, indexOffset: 0, typesDistance: 1 << 40)
    #expect(KnownKernel(anchor: anchor, bytes: far.bytes) == nil)
  }

  @Test func whatIsNotAFileIsNotRead() throws {
    _ = try search()
    let path = "\(folder.path)/\(try #require(files.first))"
    let kept = directory.file("elsewhere")
    try FileManager.default.moveItem(atPath: path, toPath: kept)
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: kept)
    #expect(try search() == (true, Self.comms))
    unlink(path)
    #expect(mkfifo(path, 0o600) == 0)
    #expect(try search() == (true, Self.comms))
    unlink(path)
    #expect(mkdir(path, 0o700) == 0)
    #expect(try search() == (true, Self.comms))
    #expect(try search() == (true, Self.comms))
    #expect(files.allSatisfy { !$0.hasPrefix(".") }, "\(files)")
  }

  @Test func aFolderThatCannotBeUsedChangesNothing() throws {
    for path in [directory.file("a-file/kernels"), "/proc/self/kernels", "/dev/null", ""] {
      if path.contains("a-file") { try writeFile(directory.file("a-file"), "") }
      let folder = KnownKernelFolder(path: path)
      for _ in 1...2 {
        let system = try GuestSystem.find(in: FlatGuestRAM(guest.ram), known: folder)
        #expect(try !system.wasKnown && system.kernel?.processes().count == 3, "\(path)")
      }
    }
    // Others could have written there.
    _ = try search()
    chmod(folder.path, 0o777)
    #expect(try search().isSearch)
  }

  @Test func onlySoManyKernelsAreKept() throws {
    _ = try search()
    let first = try #require(files.first)
    for number in 0..<UInt64(200) {
      let anchor = PageDigest(words: (number, 1, 2, 3))
      try writeFile(
        "\(folder.path)/\(anchor)",
        KnownKernel(anchor: anchor, indexOffset: 8, typesDistance: 4096).bytes
      )
      var times = [timeval(tv_sec: 1_000_000 + Int(number), tv_usec: 0)]
      times.append(times[0])
      utimes("\(folder.path)/\(anchor)", times)
    }
    try writeFile("\(folder.path)/.new-1-2", "left by a writer that was killed")
    let long = [timeval(tv_sec: 1_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000, tv_usec: 0)]
    utimes("\(folder.path)/.new-1-2", long)
    _ = try search(SyntheticGuest(.after))
    #expect(files.count == KnownKernelFolder.maximumCount)
    #expect(files.contains(first), "the oldest go first")
    #expect(try !search().isSearch && !search(SyntheticGuest(.after)).isSearch)
    let size = files.reduce(0) { $0 + ((try? readFile("\(folder.path)/\($1)").count) ?? 0) }
    #expect(size <= 8192)
  }
}
