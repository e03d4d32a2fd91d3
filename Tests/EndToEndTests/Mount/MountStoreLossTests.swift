import Glibc
import Testing
import VMCheckpointTestSupport

/// Mounts of stores that were moved, replaced, or have no room.
@Suite(.serialized, .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"))
struct MountStoreLossTests {
  private let bench: Workbench
  private let ram = sampleRAM(256, seed: 21)

  init() throws {
    bench = try Workbench()
    try bench.save("guest", ram)
  }

  private func killServer(of mount: MountTool) throws -> [Int32] {
    let servers = mount.processes(areKeepers: false)
    for pid in servers { kill(pid, SIGKILL) }
    try waitUntil("the server is gone") {
      servers.allSatisfy { !mount.processes(areKeepers: false).contains($0) }
    }
    return servers
  }

  @Test("pages of a store that has come to the path are not taken for those of an open file")
  func replaced() throws {
    // The same row, and the same name.
    let other = try Workbench()
    try other.save("guest", sampleRAM(256, seed: 22))
    let mount = try MountTool(bench)
    let file = try PageFile(mount.path("guest", "ram"))
    #expect(file.mismatches(ram, 0..<4) == [])
    let put = bench.directory.file("put-aside.db")
    rename(bench.storePath, put)
    expectSuccess(try run(["/bin/cp", other.storePath, bench.storePath]))
    var servers = Set(try killServer(of: mount))
    file.forget()
    let (ram, reader) = (ram, ThreadResult { [ram] in file.mismatches(ram, 0..<256) })
    // They find another store, and go again.
    let first = servers
    try waitUntil("some servers come") {
      servers.formUnion(mount.processes(areKeepers: false))
      return servers.count > first.count + 2
    }
    rename(put, bench.storePath)
    #expect(reader.wait() == [])
    #expect(file.mismatches(ram, 0..<256) == [])
  }

  @Test("a mount whose store is gone can be taken away, and whoever waits gets an error")
  func gone() throws {
    let mount = try MountTool(bench)
    let put = bench.directory.file("put-aside.db")
    rename(bench.storePath, put)
    _ = try killServer(of: mount)
    let path = mount.path("guest", "overlays.json")
    let reader = ThreadResult { (try? readFile(path)) == nil }
    usleep(300_000)
    let outcome = try bench.tool.start(["unmount", "--lazy", mount.directory]).wait()
    expectSuccess(outcome)
    #expect(reader.wait(), "no bytes came")
    try mount.waitUntilNobodyIsLeft()
  }

  @Test(
    "a full disk keeps nobody from reading a mount",
    .enabled(if: SmallFileSystem.canMount, "cannot mount"),
    arguments: [true, false]
  )
  func fullDisk(hasReserve: Bool) throws {
    let fileSystem = try SmallFileSystem()
    let place = try Workbench(in: fileSystem.path)
    let ram = sampleRAM(64, seed: 23)
    try place.save("guest", ram)
    let mnt = try bench.directory.subdirectory("mnt")
    if !hasReserve {
      let lock = "\(place.storePath)-lock"
      expectSuccess(try run(["/usr/bin/env", "fallocate", "-p", "-o", "0", "-l", "64M", lock]))
    }
    try fileSystem.fill("\(fileSystem.path)/filler")
    expectSuccess(try place.tool.run("mount", mnt))
    let file = try PageFile("\(mnt)/by-name/guest/ram")
    #expect(file.mismatches(ram, 0..<64) == [])
    // A row, or a lock in its place: both keep the snapshot's chunks.
    let leaseCount = try #require(place.tool.json("lease", "list")["leases"] as? [Any]).count
    #expect(leaseCount == (hasReserve ? 1 : 0))
    #expect(try place.tool.run("gc", "--no-wait").ending == .exit(hasReserve ? 0 : 75))
    file.closeFile()
    expectSuccess(try MountTool.unmountWhenUnused(mnt, place.tool))
  }
}
