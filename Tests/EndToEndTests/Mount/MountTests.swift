import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// A mounted store, whose files are compared with what a restore writes.
@Suite(.serialized, .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"))
struct MountTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// A guest with RAM in two regions and overlays.
  private func saveOverlaidGuest(_ name: String = "guest", seed: UInt64 = 3) throws {
    let overlays = try bench.write(
      "overlays.json",
      """
      {"format": 1, "guest_os_id": "0x8100060100000000", "overlays": [
        {"kind": "hypercall", "pfn": 3, "variant": "vmcall"},
        {"kind": "reference-tsc", "pfn": "0x1005", "tsc_frequency_hz": 2400000000}]}
      """
    )
    try bench.save(
      name,
      sampleRAM(512, seed: seed),
      "--overlays",
      overlays,
      "--region",
      "gpa=0,size=1M,offset=0,name=low",
      "--region",
      "gpa=16M,size=1M,offset=1M,name=high"
    )
  }

  private func shell(_ script: String, _ arguments: String...) throws -> ProcessOutcome {
    try run(["/bin/bash", "-ec", script, "bash"] + arguments)
  }

  @Test("each file of RAM has the bytes that a restore writes")
  func bytes() throws {
    try saveOverlaidGuest()
    let mount = try MountTool(bench)
    #expect(mount.outcome?.text == "Mounted 1 snapshot on \(mount.directory)\n")
    for (file, options) in [
      ("ram", []), ("ram.bare", ["--overlays", "omit"]), ("core.elf", ["--format", "elf"]),
      ("memory.lime", ["--format", "lime"]),
    ] {
      let restored = bench.directory.file("restored.\(file)")
      expectSuccess(try bench.tool.start(["restore", "guest", "-o", restored] + options).wait())
      let path = mount.path("guest", file)
      expectSuccess(try run(["/usr/bin/cmp", restored, path]))
      let sums = try shell(#"sha256sum <"$1"; sha256sum <"$2""#, restored, path)
      let lines = sums.text.split(separator: "\n")
      #expect(lines.count == 2 && lines[0] == lines[1], "\(file): \(sums)")
      // Odd offsets and sizes, through the page cache and past it.
      for (block, skip, flags) in [(1000, 777, ""), (4096, 3, "iflag=direct"), (4097, 255, "")] {
        let parts = try shell(
          #"dd if="$1" bs=$3 skip=$4 count=9 $5 status=none | sha256sum; dd if="$2" bs=$3 skip=$4 count=9 status=none | sha256sum"#,
          path,
          restored,
          "\(block)",
          "\(skip)",
          flags
        )
        let lines = parts.text.split(separator: "\n")
        #expect(lines.count == 2 && lines[0] == lines[1], "\(file) \(block) \(skip): \(parts)")
      }
    }
    let overlays = bench.directory.file("out.json")
    try bench.tool.succeed(
      "restore",
      "guest",
      "-o",
      bench.directory.file("again"),
      "--overlays-out",
      overlays
    )
    #expect(try readFile(mount.path("guest", "overlays.json")) == readFile(overlays))
    let shown = try bench.tool.succeed("show", "guest", "--json").standardOutput
    #expect(try readFile(mount.path("guest", "snapshot.json")) == shown)
    try bench.tool.succeed("tag", "guest", "note=a-longer-description-than-before")
    let tagged = try shell(#"cat "$1""#, mount.path("guest", "snapshot.json"))
    #expect(tagged.text.contains("a-longer-description-than-before"))
    #expect(
      tagged.standardOutput == (try bench.tool.succeed("show", "guest", "--json").standardOutput)
    )
    expectSuccess(try mount.unmountWhenUnused())
    try mount.waitUntilNobodyIsLeft()
  }

  @Test(
    "what is written to a mapping of the file is private, and every page is right at first touch"
  )
  func mapped() throws {
    try saveOverlaidGuest()
    let ram = try bench.restore("guest")
    let mount = try MountTool(bench)
    let descriptor = open(mount.path("guest", "ram"), O_RDWR | O_CLOEXEC)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    let count = ram.count
    let address = try #require(
      mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0)
    )
    try #require(address != MAP_FAILED)
    defer { munmap(address, count) }
    madvise(address, count, CInt(MADV_RANDOM))
    for page in (0..<(count / 4096)).shuffled() {
      let bytes = UnsafeRawBufferPointer(start: address + page * 4096, count: 4096)
      #expect(bytes.elementsEqual(ram[(page * 4096)..<(page * 4096 + 4096)]), "page \(page)")
      if page % 3 == 0 { address.storeBytes(of: 0xff, toByteOffset: page * 4096, as: UInt8.self) }
    }
    #expect(try PageFile(mount.path("guest", "ram")).mismatches(ram, 0..<(count / 4096)) == [])
  }

  @Test("what is written to a shared mapping is refused, and others read the right page again")
  func sharedMapping() throws {
    let ram = incompressibleRAM(16, seed: 8)
    try bench.save("guest", ram)
    let mount = try MountTool(bench)
    let file = try PageFile(mount.path("guest", "ram"))
    let descriptor = open(mount.path("guest", "ram"), O_RDWR | O_CLOEXEC)
    let address = try #require(
      mmap(nil, ram.count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    )
    try #require(address != MAP_FAILED)
    close(descriptor)
    for page in [3, 4, 9] {
      address.storeBytes(of: ~ram[page * 4096], toByteOffset: page * 4096, as: UInt8.self)
    }
    // The error comes with the first call that waits for it.
    _ = msync(address, ram.count, Int32(MS_SYNC))
    munmap(address, ram.count)
    try waitUntil("the pages are the store's again") { file.mismatches(ram, 0..<16) == [] }
  }

  @Test("only the owner may use the files, RAM can be opened for writing, and nothing is written")
  func modes() throws {
    try bench.save("guest", sampleRAM(8))
    let mount = try MountTool(bench)
    #expect(try fileMode(mount.path("guest", "ram")) == 0o600)
    #expect(try fileMode(mount.path("by-name/guest")) == 0o700)
    #expect(try fileMode(mount.path("by-name")) == 0o700)
    let file = try PageFile(mount.path("guest", "ram"), flags: O_RDWR)
    #expect(file.writeError() == EROFS)
    for script in [
      #"echo x >>"$1/by-name/guest/ram""#, #"rm "$1/by-name/guest/ram""#, #"mkdir "$1/new""#,
      #"touch "$1/by-name/new""#, #"chmod 777 "$1/by-name/guest/ram""#, #"ln -s a "$1/b""#,
      #"mv "$1/by-name/guest" "$1/by-name/other""#, #"truncate -s 0 "$1/by-name/guest/ram""#,
      #"setfattr -n user.a -v b "$1/by-name/guest/ram""#, #": >"$1/by-name/guest/ram""#,
    ] { #expect(try !shell(script, mount.directory).succeeded, "\(script)") }
    #expect(file.mismatches(try bench.restore("guest"), 0..<8) == [])
    let listing = try shell(#"ls -lRa "$1""#, mount.directory)
    expectSuccess(listing)
    #expect(listing.standardError == "")
  }

  @Test("holes are found, and kept by cp")
  func holes() throws {
    var ram = [UInt8](repeating: 0, count: 300 * 4096)
    for page in [0, 1, 2, 40, 41, 200, 299] { ram[page * 4096 + 5] = UInt8(page & 0x7f | 1) }
    try bench.save("guest", ram)
    let mount = try MountTool(bench)
    let file = try PageFile(mount.path("guest", "ram"))
    let (data, hole) = (Int32(3), Int32(4))
    #expect(file.seek(0, data) == 0)
    #expect(file.seek(0, hole) == 3 * 4096)
    #expect(file.seek(3 * 4096, data) == 40 * 4096)
    #expect(file.seek(40 * 4096 + 9, data) == 40 * 4096 + 9)
    #expect(file.seek(40 * 4096 + 9, hole) == 42 * 4096)
    #expect(file.seek(201 * 4096 + 1, data) == 299 * 4096)
    #expect(file.seek(299 * 4096, hole) == 300 * 4096)
    #expect(file.seek(300 * 4096, data) == nil)
    let copy = bench.directory.file("copy")
    expectSuccess(try run(["/bin/cp", "--sparse=always", mount.path("guest", "ram"), copy]))
    #expect(try readFile(copy) == ram)
    #expect(try fileSize(copy).allocated < ram.count / 2)
    #expect(try fileSize(mount.path("guest", "ram")).allocated == 7 * 4096)
  }

  @Test("names become folders, and one that is the beginning of another is both")
  func names() throws {
    let names = ["web", "web/7", "web/7/after", "web/ram", "db:1@x+y", "a//b", "a/../c", "a/."]
    for (index, name) in names.enumerated() {
      try bench.save(
        name,
        sampleRAM(4, seed: UInt64(index + 20)),
        "--vm",
        index < 4 ? "vm/1" : "other"
      )
    }
    let mount = try MountTool(bench)
    let paths = [
      "web", "web/7", "web/7/after", "web/ram~", "db:1@x+y", "a/~/b", "a/..~/c", "a/.~",
    ]
    for (name, path) in zip(names, paths) {
      #expect(try readFile(mount.path(path, "ram")) == bench.restore(name), "\(name)")
    }
    let found = try run(["/usr/bin/find", mount.directory, "-name", "ram", "-type", "f"])
    #expect(
      Set(found.text.split(separator: "\n").map(String.init))
        == Set(paths.map { mount.path($0, "ram") })
    )
    for (link, name) in [
      ("by-vm/vm%2F1/web~", "web"), ("by-vm/vm%2F1/web/7~", "web/7"),
      ("by-vm/vm%2F1/web/7/after", "web/7/after"), ("by-vm/other/db:1@x+y", "db:1@x+y"),
      ("by-vm/vm%2F1/latest", "web/ram"), ("by-vm/other/latest", "a/."), ("latest", "a/."),
    ] {
      #expect(try readFile(mount.path("\(link)/ram")) == bench.restore(name), "\(link)")
    }
  }

  @Test("snapshots come and go while they are mounted, and with REFs there are only those")
  func changing() throws {
    try bench.save("web/1", sampleRAM(8, seed: 1), "--vm", "web")
    let all = try MountTool(bench)
    let one = try MountTool(bench, ["latest"], name: "one")
    #expect(exists(one.path("web/1", "ram")))
    let target = try FileManager.default.destinationOfSymbolicLink(
      atPath: all.path("by-vm/web/latest")
    )
    #expect(target == "../../by-name/web/1")
    try bench.save("web/2", sampleRAM(8, seed: 2), "--vm", "web")
    try waitUntil("the new snapshot appears") { exists(all.path("web/2", "ram")) }
    #expect(try readFile(all.path("web/2", "ram")) == bench.restore("web/2"))
    try waitUntil("the link leads to it") {
      try FileManager.default.destinationOfSymbolicLink(atPath: all.path("latest"))
        == "by-name/web/2"
    }
    #expect(!exists(one.path("web/2", "ram")))
    #expect(directoryEntries(one.path("by-name/web")) == ["1"])
    try waitUntil("nobody has it open") { try bench.sql.integer("SELECT count(*) FROM lease") == 0 }
    try bench.tool.succeed("delete", "web/1")
    try waitUntil("the deleted one goes") { !exists(all.path("by-name/web/1")) }
    try waitUntil("the other mount is empty") { directoryEntries(one.path("by-name")) == [] }
    #expect(directoryEntries(all.path("by-name/web")) == ["2"])
  }

  @Test("a folder with very many snapshots is listed whole, and so with attributes")
  func manySnapshots() throws {
    try bench.save("first", sampleRAM(2))
    try bench.sql.run(
      """
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
      INSERT INTO snapshot (uuid, name, vm, state, started_at, completed_at, source, producer,
                            ram_bytes, stored_pages, ram_checksum, ram_digest, digest)
        SELECT lower(printf('%08x-0000-4000-8000-000000000000', i)), printf('many/%d', i), 'many',
               'complete', started_at, completed_at, source, producer, ram_bytes, stored_pages,
               ram_checksum, ram_digest, digest
          FROM snapshot, n WHERE name = 'first'
      """
    )
    let mount = try MountTool(bench)
    #expect(Set(directoryEntries(mount.path("by-name/many"))) == Set((1...3000).map(String.init)))
    let listing = try shell(#"ls -lU "$1" | grep -c ^drwx------"#, mount.path("by-name/many"))
    #expect(listing.text == "3000\n", "\(listing)")
    let links = try shell(#"ls -lU "$1" | grep -c ^lrwx"#, mount.path("by-vm/many/many"))
    #expect(links.text == "3000\n", "\(links)")
  }

  @Test("a page that is damaged is an error of its own, and its neighbours are right")
  func damaged() throws {
    let ram = incompressibleRAM(64, seed: 7)
    try bench.save("guest", ram)
    let chunk = try bench.sql.integer(
      "SELECT chunk_id FROM ram_extent WHERE first_pfn <= 20 ORDER BY first_pfn DESC LIMIT 1"
    )
    let rows = try bench.sql.run(
      "SELECT first_pfn, page_count FROM ram_extent WHERE chunk_id = \(chunk)"
    )
    let lost = Set(
      rows.split(separator: "\n").flatMap { row in
        let numbers = row.split(separator: "|").compactMap { Int($0) }
        return numbers[0]..<(numbers[0] + numbers[1])
      }
    )
    try bench.sql.run(
      "UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = \(chunk)"
    )
    let mount = try MountTool(bench, options: ["--foreground", "--json"])
    let file = try PageFile(mount.path("guest", "ram"))
    for page in 0..<64 {
      let found = file.page(page)
      if lost.contains(page) {
        #expect(found == nil, "page \(page)")
      } else {
        #expect(found == Array(ram[(page * 4096)..<(page * 4096 + 4096)]), "page \(page)")
      }
    }
    let whole = try shell(#"cat "$1" >/dev/null"#, mount.path("guest", "ram"))
    #expect(whole.ending == .exit(1) && whole.standardError.contains("Input/output error"))
    let process = try #require(mount.process)
    #expect(try mount.unmount().ending == .exit(75))
    #expect(file.page(0) != nil, "a mount that is in use is left alone")
    expectSuccess(try mount.unmount("--lazy"))
    #expect(!exists(mount.path("by-name")))
    #expect(file.page(63) != nil || lost.contains(63), "who has a file open keeps it")
    file.closeFile()
    let outcome = try process.wait()
    let result = try outcome.jsonObject()
    #expect(try #require(result["failed_reads"] as? Int) >= lost.count)
    let warnings = try #require(result["warnings"] as? [String])
    #expect(warnings.contains { $0.contains("chunk \(chunk)") }, "\(warnings)")
    try mount.waitUntilNobodyIsLeft()
  }

  @Test("in the foreground a signal takes the mount away, and the result counts what was read")
  func foreground() throws {
    try saveOverlaidGuest()
    let mount = try MountTool(bench, options: ["--foreground", "--json"])
    #expect(try readFile(mount.path("guest", "ram")) == bench.restore("guest"))
    let process = try #require(mount.process)
    process.send(SIGINT)
    let outcome = try process.wait()
    expectSuccess(outcome)
    let result = try outcome.jsonObject()
    #expect(result["mounted"] as? Bool == false)
    #expect(result["failed_reads"] as? Int == 0)
    #expect(try #require(result["read_bytes"] as? Int) >= 2 << 20)
    #expect(result["warnings"] as? [String] == [])
    try mount.waitUntilNobodyIsLeft()
    #expect(directoryEntries(mount.directory) == [])
    #expect(try bench.sql.integer("SELECT count(*) FROM lease") == 0)
  }
}
