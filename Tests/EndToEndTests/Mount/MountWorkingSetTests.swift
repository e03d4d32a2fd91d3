import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// What a VM touches first of a mounted file is recorded, and the kernel has it when the next VM comes.
@Suite(.serialized, .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"))
struct MountWorkingSetTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// RAM as a VM has it: opened for writing, and mapped privately.
  private final class MappedRAM {
    let memory: UnsafeMutableRawBufferPointer
    private let descriptor: Int32

    init(_ path: String, pageCount: Int) throws {
      descriptor = open(path, O_RDWR | O_CLOEXEC)
      try #require(descriptor >= 0, "cannot open \(path)")
      let count = pageCount * 4096
      let address = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0)
      try #require(address != MAP_FAILED)
      memory = UnsafeMutableRawBufferPointer(start: address, count: count)
      // Each page is a request of its own.
      madvise(memory.baseAddress, count, CInt(MADV_RANDOM))
    }

    deinit {
      munmap(memory.baseAddress, memory.count)
      close(descriptor)
    }

    func mismatches(_ ram: [UInt8], _ pages: some Sequence<Int>) -> [Int] {
      pages.filter { page in
        let bytes = (page * 4096)..<(page * 4096 + 4096)
        return !memory[bytes].elementsEqual(ram[bytes])
      }
    }

    /// Whether the kernel has each of these pages of the file in its memory.
    func areInMemory(_ pages: some Sequence<Int>) -> Bool {
      var states = [UInt8](repeating: 0, count: memory.count / 4096)
      guard mincore(memory.baseAddress, memory.count, &states) == 0 else { return false }
      return pages.allSatisfy { states[$0] & 1 != 0 }
    }
  }

  private var setCount: Int {
    get throws {
      guard
        try bench.sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'working_set'") == 1
      else { return 0 }
      return try bench.sql.integer("SELECT count(*) FROM working_set")
    }
  }

  private func pagesOfSet() throws -> [Int] {
    try bench.sql.run("SELECT first_pfn, page_count FROM working_set_run ORDER BY position")
      .split(separator: "\n").flatMap { row in
        let numbers = row.split(separator: "|").compactMap { Int($0) }
        return numbers[0]..<(numbers[0] + numbers[1])
      }
  }

  private func waitUntilNothingIsOpen() throws {
    try waitUntil("the lease is given back") {
      try bench.sql.integer("SELECT count(*) FROM lease") == 0
    }
  }

  /// Lets the kernel forget the file.
  private func forget(_ path: String) throws {
    let file = try PageFile(path)
    file.forget()
    file.closeFile()
    try waitUntilNothingIsOpen()
  }

  @Test("the next VM finds in memory what the last one touched first, and nothing wrong")
  func recordedAndPlayed() throws {
    let ram = sampleRAM(2048, seed: 31)
    try bench.save("guest", ram)
    let mount = try MountTool(bench, options: ["--record-working-set", "8"])
    let path = mount.path("guest", "ram")
    // What the kernel has already would not be seen.
    _ = try readFile(path)
    try waitUntilNothingIsOpen()

    let touched = [1500, 7, 700, 701, 2047, 64]
    do {
      let vm = try MappedRAM(path, pageCount: 2048)
      #expect(vm.mismatches(ram, touched) == [])
      // Somebody else reads meanwhile.
      #expect(try PageFile(path).mismatches(ram, [1000, 1001]) == [])
      try waitUntil("the working set is stored") { try setCount == 1 }
      withExtendedLifetime(vm) {}
    }
    try waitUntilNothingIsOpen()
    let pages = try pagesOfSet()
    let places = touched.map { page in pages.firstIndex(of: page) ?? -1 }
    #expect(places == places.sorted() && !places.contains(-1), "in the order of the touches")
    #expect(pages.count < 200, "and hardly more than these")
    #expect(!pages.contains(1000), "what others read is not the VM's")
    let shown = try #require(try bench.tool.json("show", "guest")["working_set"] as? [String: Any])
    #expect(shown["door"] as? String == "mount")
    #expect(shown["duration_seconds"] as? Double == 8)

    try forget(path)
    let next = try MappedRAM(path, pageCount: 2048)
    try waitUntil("its pages are in memory") { next.areInMemory(touched) }
    #expect(!next.areInMemory(0..<2048))
    #expect(next.mismatches(ram, 0..<2048) == [])
    expectSuccess(try mount.unmount("--lazy"))
    #expect(try pagesOfSet() == pages, "it is recorded once")
    #expect(try bench.tool.verify().succeeded)
  }

  @Test("who copies or searches RAM leaves no working set, and 0 seconds leave none either")
  func notRecorded() throws {
    let ram = sampleRAM(512, seed: 33)
    try bench.save("guest", ram)
    let mount = try MountTool(bench, options: ["--record-working-set", "0.01"])
    for command in [["/usr/bin/sha256sum"], ["/usr/bin/grep", "-c", "x"]] {
      #expect(try run(command + [mount.path("guest", "ram")]).standardError == "")
    }
    let copy = bench.directory.file("copy")
    expectSuccess(try run(["/bin/cp", "--sparse=always", mount.path("guest", "ram"), copy]))
    #expect(try readFile(copy).elementsEqual(ram))
    try waitUntilNothingIsOpen()
    #expect(try setCount == 0)
    expectSuccess(try mount.unmountWhenUnused())

    let silent = try MountTool(bench, options: ["--record-working-set", "0"], name: "silent")
    do {
      let vm = try MappedRAM(silent.path("guest", "ram"), pageCount: 512)
      #expect(vm.mismatches(ram, 0..<512) == [])
    }
    try waitUntilNothingIsOpen()
    #expect(try setCount == 0)
  }

  @Test("a damaged page of a working set is an error for who touches it, and for nobody else")
  func damaged() throws {
    let ram = incompressibleRAM(512, seed: 35)
    try bench.save("guest", ram)
    do {
      let mount = try MountTool(bench, options: ["--record-working-set", "8"])
      let vm = try MappedRAM(mount.path("guest", "ram"), pageCount: 512)
      #expect(vm.mismatches(ram, [300, 5, 100]) == [])
      try waitUntil("the working set is stored") { try setCount == 1 }
      withExtendedLifetime(vm) {}
      expectSuccess(try mount.unmount("--lazy"))
    }
    try waitUntilNothingIsOpen()
    let chunk = try bench.sql.integer(
      "SELECT chunk_id FROM ram_extent WHERE first_pfn <= 300 ORDER BY first_pfn DESC LIMIT 1"
    )
    try bench.sql.run(
      "UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = \(chunk)"
    )
    let mount = try MountTool(bench, name: "again")
    let path = mount.path("guest", "ram")
    let vm = try MappedRAM(path, pageCount: 512)
    try waitUntil("the others are in memory") { vm.areInMemory([5, 100]) }
    #expect(!vm.areInMemory([300]))
    let file = try PageFile(path)
    #expect(file.page(300) == nil)
    #expect(file.mismatches(ram, [5, 100]) == [])
  }
}
