import CLinux
import Glibc
import Testing

/// Mappings of files that somebody else cuts.
struct MappingGuardTests {
  private static let pageByteCount = 4096

  /// A file of four pages in memory, and a mapping of it.
  private func mapFile() throws -> (descriptor: Int32, base: UnsafeMutableRawPointer) {
    let descriptor = clinux_memory_file("guard")
    try #require(descriptor >= 0)
    let bytes = [UInt8](repeating: 7, count: 4 * Self.pageByteCount)
    try #require(write(descriptor, bytes, bytes.count) == bytes.count)
    let base = mmap(nil, bytes.count, PROT_READ, MAP_SHARED, descriptor, 0)
    return (descriptor, try #require(base != MAP_FAILED ? base : nil))
  }

  @Test func aPageThatIsGoneReadsAsZerosAndIsNoticed() throws {
    let (descriptor, base) = try mapFile()
    let guardNumber = clinux_guard_mapping(base, 4 * Self.pageByteCount)
    try #require(guardNumber >= 0)
    defer {
      clinux_unguard_mapping(guardNumber)
      munmap(base, 4 * Self.pageByteCount)
      close(descriptor)
    }
    #expect(base.load(fromByteOffset: 3 * Self.pageByteCount, as: UInt8.self) == 7)
    #expect(clinux_is_mapping_broken(guardNumber) == 0)
    ftruncate(descriptor, off_t(2 * Self.pageByteCount))
    #expect(base.load(fromByteOffset: Self.pageByteCount, as: UInt8.self) == 7)
    #expect(clinux_is_mapping_broken(guardNumber) == 0)
    #expect(base.load(fromByteOffset: 2 * Self.pageByteCount + 9, as: UInt8.self) == 0)
    #expect(clinux_is_mapping_broken(guardNumber) == 1)
  }

  @Test func aGuardThatIsFreeIsUsedAgainAndKnowsNothingOfTheLast() throws {
    for _ in 0..<(3 * clinux_guard_capacity) {
      let (descriptor, base) = try mapFile()
      let guardNumber = clinux_guard_mapping(base, 4 * Self.pageByteCount)
      try #require(guardNumber >= 0)
      #expect(clinux_is_mapping_broken(guardNumber) == 0)
      ftruncate(descriptor, 0)
      #expect(base.load(as: UInt8.self) == 0)
      #expect(clinux_is_mapping_broken(guardNumber) == 1)
      clinux_unguard_mapping(guardNumber)
      munmap(base, 4 * Self.pageByteCount)
      close(descriptor)
    }
  }

  /// A defect elsewhere must not become a process that reads zeros.
  @Test func whatIsNotGuardedEndsTheProcess() async throws {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      let (guarded, unguarded) = try (MappingGuardTests().mapFile(), MappingGuardTests().mapFile())
      try #require(clinux_guard_mapping(guarded.base, 4 * 4096) >= 0)
      ftruncate(unguarded.descriptor, 0)
      // A value that nobody used would not be read in an optimized build.
      exit(Int32(unguarded.base.load(as: UInt8.self)))
    }
  }

  @Test func aSignalThatSomebodySendsEndsTheProcess() async throws {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      let file = try MappingGuardTests().mapFile()
      try #require(clinux_guard_mapping(file.base, 4 * 4096) >= 0)
      kill(getpid(), SIGBUS)
      sleep(10)
    }
  }
}
