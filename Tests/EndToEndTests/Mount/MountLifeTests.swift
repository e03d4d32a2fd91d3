import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// What a mount outlives, and what it keeps from being deleted.
@Suite(.serialized, .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"))
struct MountLifeTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private var leaseCount: Int {
    get throws { try bench.sql.integer("SELECT count(*) FROM lease") }
  }

  @Test("a server that is killed at any moment is replaced: no wrong byte, and no error", .slow)
  func killed() throws {
    let ram = sampleRAM(16_384, seed: 9)
    try bench.save("guest", ram)
    let mount = try MountTool(bench)
    let file = try PageFile(mount.path("guest", "ram"))
    var generator = TestGenerator(seed: 11)
    try waitUntil("there is a lease") { try leaseCount == 1 }
    for round in 0..<20 {
      file.forget()
      let pages = (0..<16_384).shuffled()
      let readers = (0..<3).map { part in
        ThreadResult {
          file.mismatches(ram, pages[(part * 1000)..<((part + 1) * 1000)])
        }
      }
      usleep(UInt32(generator.int(0...20_000)))
      // Now and then the keeper, which must not matter either.
      let keepers = mount.processes(areKeepers: true)
      let victims = mount.processes(areKeepers: false)
      for pid in round % 5 == 4 ? keepers : victims { kill(pid, SIGKILL) }
      // What is opened and closed meanwhile waits, too.
      #expect(try readFile(mount.path("guest", "overlays.json")).count > 10)
      let other = try PageFile(mount.path("guest", "ram.bare"))
      #expect(other.mismatches(ram, [0, 16_383]) == [])
      for reader in readers { #expect(reader.wait() == [], "round \(round)") }
      // Until both have what the other one's death needs: who kills both at once ends the mount.
      try waitUntil("another one runs in its place, and has the mount") {
        let hitsKeeper = round % 5 == 4
        let (servers, others) = (
          mount.processes(areKeepers: false), mount.processes(areKeepers: true)
        )
        return servers.count == 1 && others.count == 1
          && (hitsKeeper ? others != keepers : servers != victims)
          && mount.hasMount(servers[0]) && mount.hasMount(others[0])
      }
      #expect(try PageFile(mount.path("guest", "ram.bare")).page(0) != nil)
    }
    #expect(try bench.tool.run("delete", "guest").ending == .exit(75))
    file.closeFile()
    try waitUntil("the lease is given back") { try leaseCount == 0 }
    expectSuccess(try mount.unmountWhenUnused())
    try mount.waitUntilNobodyIsLeft()
    try bench.tool.succeed("delete", "guest")
  }

  @Test("what somebody has open is not deleted, what nobody has open is")
  func leases() throws {
    let ram = sampleRAM(64, seed: 5)
    try bench.save("open", ram)
    try bench.save("closed", sampleRAM(64, seed: 6))
    let mount = try MountTool(bench)
    let path = try #require(realpath(mount.directory, nil).map { String(cString: $0) })
    let file = try PageFile(mount.path("open", "ram"))
    let second = try PageFile(mount.path("open", "core.elf"))
    // Only RAM counts.
    _ = try readFile(mount.path("closed", "overlays.json"))
    let refusal = try bench.tool.run("delete", "open", "closed")
    #expect(refusal.ending == .exit(75))
    #expect(
      refusal.standardError.hasPrefix(
        "vmckpt: snapshot \"open\" is served by lease 1 (mount, \"\(path)\"), since "
      ),
      "\(refusal)"
    )
    let listed = try bench.tool.json("lease", "list")["leases"] as? [[String: Any]]
    #expect(listed?.count == 1)
    #expect(listed?.first?["door"] as? String == "mount")
    try bench.tool.succeed("delete", "closed")
    // A mapping keeps the file open.
    let descriptor = open(mount.path("open", "ram.bare"), O_RDONLY | O_CLOEXEC)
    let address = try #require(mmap(nil, 4096, PROT_READ, MAP_PRIVATE, descriptor, 0))
    try #require(address != MAP_FAILED)
    close(descriptor)
    file.closeFile()
    second.closeFile()
    #expect(try bench.tool.run("delete", "open").ending == .exit(75))
    munmap(address, 4096)
    try waitUntil("the lease is given back") { try leaseCount == 0 }
    try bench.tool.succeed("delete", "open")
    try waitUntil("it goes") { directoryEntries(mount.path("by-name")) == [] }
    #expect(try bench.tool.verify().succeeded)
  }

  @Test("saves, gc and optimize meanwhile change no byte of what is open", .slow)
  func maintenance() throws {
    let ram = sampleRAM(4096, seed: 13)
    for index in 0..<3 {
      var other = ram
      for page in stride(from: index, to: 4096, by: 3) {
        other.replaceSubrange((page * 4096)..<(page * 4096 + 8), with: [1, 2, 3, 4, 5, 6, 7, 8])
      }
      try bench.save("other\(index)", other)
    }
    try bench.save("guest", ram)
    let mount = try MountTool(bench)
    let file = try PageFile(mount.path("guest", "ram"))
    #expect(file.mismatches(ram, stride(from: 0, to: 4096, by: 7)) == [])
    let reader = ThreadResult {
      (0..<6).flatMap { _ in
        file.forget()
        return file.mismatches(ram, (0..<4096).shuffled())
      }
    }
    for index in 0..<3 {
      try bench.tool.succeed("delete", "other\(index)")
      try bench.tool.succeed("gc")
      try bench.tool.succeed("optimize")
      try bench.save("new\(index)", sampleRAM(256, seed: UInt64(50 + index)))
    }
    #expect(reader.wait() == [])
    file.forget()
    #expect(file.mismatches(ram, 0..<4096) == [])
    for index in 0..<3 {
      #expect(
        try readFile(mount.path("new\(index)", "ram")) == sampleRAM(256, seed: UInt64(50 + index))
      )
    }
  }

  @Test("a mount whose server and keeper are both gone can be taken away, and made anew")
  func lost() throws {
    try bench.save("guest", sampleRAM(64, seed: 15))
    let mount = try MountTool(bench)
    let file = try PageFile(mount.path("guest", "ram"))
    let keepers = mount.processes(areKeepers: true)
    for pid in keepers { kill(pid, SIGSTOP) }
    try waitUntil("the keeper is stopped") { keepers.allSatisfy(OtherProcesses.isStopped) }
    for areKeepers in [false, true] {
      for pid in mount.processes(areKeepers: areKeepers) { kill(pid, SIGKILL) }
    }
    try mount.waitUntilNobodyIsLeft()
    #expect(file.page(5) == nil, "an error, not zeros")
    #expect(try bench.tool.run("delete", "guest").ending == .exit(75))
    file.closeFile()
    // Whoever mounts there again learns what is in the way.
    expectFailure(
      try bench.tool.run("mount", mount.directory),
      73,
      "a store is mounted on directory \"\(mount.directory)\" already; unmount it first, with: vmckpt unmount DIR"
    )
    expectSuccess(try mount.unmountWhenUnused())
    let again = try MountTool(bench)
    #expect(try leaseCount == 0, "the lease of the mount before is gone")
    #expect(try readFile(again.path("guest", "ram")) == bench.restore("guest"))
  }

  @Test("another program's mount whose server is gone is named, with what takes it away")
  func foreign() throws {
    try bench.save("guest", sampleRAM(4))
    let place = try bench.directory.subdirectory("foreign")
    try #require(MountTool.mountWithoutServer(on: place))
    expectFailure(
      try bench.tool.run("mount", place),
      73,
      "directory \"\(place)\" is a mount whose server has ended; take it away first, with: "
        + "vmckpt unmount DIR; or, if it is another program's, with umount"
    )
    expectSuccess(try run(["/bin/umount", place]))
    expectSuccess(try MountTool(bench, name: "foreign").unmountWhenUnused())
  }

  @Test("who may not write the store mounts it without leases, and is told")
  func readOnly() throws {
    let fileSystem = try SmallFileSystem()
    let place = try Workbench(in: fileSystem.path)
    try place.save("guest", sampleRAM(64, seed: 4))
    let expected = try place.restore("guest")
    let mnt = try bench.directory.subdirectory("mnt")
    expectSuccess(
      try run(["/bin/mount", "-o", "remount,ro", fileSystem.path])
    )
    let outcome = try place.tool.run("mount", mnt)
    #expect(outcome.succeeded)
    #expect(outcome.standardError.contains("is read-only, so that there are no leases"))
    #expect(try readFile("\(mnt)/by-name/guest/ram") == expected)
    expectSuccess(try MountTool.unmountWhenUnused(mnt, place.tool))
    try waitUntil("the server is gone") {
      try run(["/bin/mount", "-o", "remount,rw", fileSystem.path]).succeeded
    }
  }

  @Test("others use a mount only when they were let in", .enabled(if: OtherUser.isThere))
  func allowOther() throws {
    try bench.save("guest", sampleRAM(16, seed: 4))
    let expected = try bench.restore("guest")
    chmod(bench.directory.path, 0o755)
    let closed = try MountTool(bench, name: "closed")
    let open = try MountTool(bench, options: ["--allow-other"], name: "open")
    func readAsOther(_ mount: MountTool) throws -> ProcessOutcome {
      try run(OtherUser.commandLine(["/bin/cat", mount.path("guest", "ram")]))
    }
    #expect(try !readAsOther(closed).succeeded)
    #expect(try readAsOther(open).standardOutput == expected)
    #expect(try fileMode(open.path("guest", "ram")) == 0o666)
    let written = try run(
      OtherUser.commandLine([
        "/bin/dd", "if=/dev/zero", "of=\(open.path("guest", "ram"))", "conv=notrunc", "count=1",
      ])
    )
    #expect(!written.succeeded)
    #expect(try readAsOther(open).standardOutput == expected)
  }

  /// In a mount namespace of its own, where every user may open `/dev/fuse`, as is usual, and this one has a name.
  @Test("another user mounts by fusermount3, and root stays out", .enabled(if: OtherUser.isThere))
  func otherUser() throws {
    try bench.save("guest", sampleRAM(64, seed: 4))
    let expected = bench.directory.file("expected")
    try bench.tool.succeed("restore", "guest", "-o", expected)
    chmod(expected, 0o644)
    let mnt = try bench.directory.subdirectory("mnt")
    let devices = try bench.directory.subdirectory("devices")
    // The journal and the lock file, too.
    for name in directoryEntries(bench.directory.path) where name.hasPrefix("store.db") {
      try OtherUser.own(bench.directory.file(name))
    }
    for path in [bench.directory.path, mnt] { try OtherUser.own(path) }
    let user = OtherUser.commandLine([]).joined(separator: " ")
    let tool = bench.tool.commandLine([]).joined(separator: " ")
    let script = """
      mount -t tmpfs -o mode=755,dev none \(devices)
      mknod -m 666 \(devices)/fuse c 10 229
      mount --bind \(devices)/fuse /dev/fuse
      cp /etc/passwd \(devices)/passwd
      echo 'vmckpt-test:x:\(OtherUser.identifier):\(OtherUser.identifier)::/:/bin/sh' >>\(devices)/passwd
      mount --bind \(devices)/passwd /etc/passwd
      \(user) \(tool) mount \(mnt)
      \(user) cmp \(mnt)/by-name/guest/ram \(expected)
      \(user) stat -c '%U %a' \(mnt)/by-name/guest/ram
      if ls \(mnt)/by-name; then echo 'root may look'; fi
      until \(user) \(tool) unmount \(mnt); do sleep 0.05; done
      until leases=$(\(user) \(tool) lease list) && [ -z "$leases" ]; do sleep 0.05; done
      """.replacingOccurrences(
        of: " --store \(bench.storePath) mount",
        with: " mount --store \(bench.storePath)"
      ).replacingOccurrences(
        of: " --store \(bench.storePath) unmount",
        with: " unmount"
      ).replacingOccurrences(
        of: " --store \(bench.storePath) lease list",
        with: " lease list --store \(bench.storePath)"
      )
    let outcome = try run(
      ["/usr/bin/env", "unshare", "--mount", "/bin/bash", "-ec", script]
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.text
        == "Mounted 1 snapshot on \(mnt)\nvmckpt-test 600\nUnmounted \(mnt)\n",
      "\(outcome)"
    )
  }

  @Test("what cannot be mounted is refused before anything is")
  func refusals() throws {
    try bench.save("guest", sampleRAM(4))
    #expect(try bench.tool.run("mount").ending == .exit(64))
    let missing = bench.directory.file("missing")
    expectFailure(
      try bench.tool.run("mount", missing),
      66,
      "there is no directory \"\(missing)\"; make it first, with mkdir"
    )
    let file = try bench.write("file", "text")
    expectFailure(try bench.tool.run("mount", file), 66, "\"\(file)\" is not a directory")
    #expect(try bench.tool.run("mount", bench.directory.path).ending == .exit(64))
    let mnt = try bench.directory.subdirectory("mnt")
    #expect(try bench.tool.run("mount", "nobody", mnt).ending == .exit(66))
    #expect(try bench.tool.run("unmount", mnt).ending == .exit(66))
    let mount = try MountTool(bench)
    #expect(try bench.tool.run("mount", mnt).ending == .exit(73))
    expectFailure(
      try bench.tool.run("mount", mount.path("by-name")),
      73,
      "directory \"\(mount.path("by-name"))\" belongs to a mounted store; mount on another directory"
    )
    #expect(try readFile(mount.path("guest", "ram")) == bench.restore("guest"))
  }
}
