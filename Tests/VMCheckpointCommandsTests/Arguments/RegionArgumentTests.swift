import Testing
import VMCheckpoint
import VMCheckpointCommands

@Suite struct RegionArgumentTests {
  private func layout(_ texts: String...) throws -> RAMLayout {
    try RegionArgument.layout(texts.map { try RegionArgument.parse($0) })
  }

  @Test func anOffsetLeftOutFollowsTheRegionBefore() throws {
    let layout = try layout(
      "gpa=0x0,size=3G",
      "gpa=0x100000000,size=1G",
      "gpa=0x200000000,size=4096,offset=8G,name=dimm0",
      "gpa=0x300000000,size=8192"
    )
    #expect(
      layout.regions == [
        MemoryRegion(gpa: 0, byteCount: 3 << 30, fileOffset: 0, name: "ram0"),
        MemoryRegion(gpa: 4 << 30, byteCount: 1 << 30, fileOffset: 3 << 30, name: "ram1"),
        MemoryRegion(gpa: 8 << 30, byteCount: 4096, fileOffset: 8 << 30, name: "dimm0"),
        MemoryRegion(
          gpa: 12 << 30,
          byteCount: 8192,
          fileOffset: (8 << 30) + 4096,
          name: "ram3"
        ),
      ]
    )
  }

  @Test func aSingleRegionIsCalledRAM() throws {
    #expect(try layout("size=4K,gpa=1M").regions.map(\.name) == ["ram"])
  }

  @Test func aNameMayHoldAnEqualsSign() throws {
    #expect(try RegionArgument.parse("gpa=0,size=4K,name=a=b").name == "a=b")
  }

  @Test(arguments: [
    ("", "unknown field ''; expected gpa=N,size=N[,offset=N][,name=NAME]"),
    ("gpa", "unknown field 'gpa'; expected gpa=N,size=N[,offset=N][,name=NAME]"),
    ("gpa=0,size=4K,", "unknown field ''; expected gpa=N,size=N[,offset=N][,name=NAME]"),
    ("GPA=0,size=4K", "unknown field 'GPA=0'; expected gpa=N,size=N[,offset=N][,name=NAME]"),
    ("gpa=0", "'size' is missing"),
    ("size=4K", "'gpa' is missing"),
    ("gpa=0,gpa=0,size=4K", "'gpa' is given twice"),
    (
      "gpa=,size=4K",
      "gpa=: expected a number, decimal or 0x hexadecimal, with an optional K, M, G or T"
    ),
    (
      "gpa=0,size=3Q",
      "size=3Q: unknown unit 'Q'; use K, M, G or T, or KiB, MiB, GiB or TiB (powers of 1024)"
    ),
    ("gpa=0,size=4K,offset=16777216T", "offset=16777216T: the size does not fit 64 bits"),
  ])
  func refuses(text: String, message: String) {
    #expect(throws: ArgumentError(message)) { try RegionArgument.parse(text) }
  }

  @Test(arguments: [
    (["gpa=0,size=0"], "--region: memory region gpa=0x0,size=0x0 is empty"),
    (
      ["gpa=1,size=4K"],
      "--region: memory region gpa=0x1,size=0x1000: gpa 0x1 is not a multiple of 4096"
    ),
    (
      ["gpa=0,size=8K", "gpa=4K,size=8K"],
      """
      --region: memory regions overlap: gpa=0x0,size=0x2000 and gpa=0x1000,size=0x2000 both \
      hold GPA 0x1000
      """
    ),
    (
      ["gpa=0,size=0xfffffffffffff000", "gpa=0,size=0xfffffffffffff000"],
      """
      --region: memory region gpa=0x0,size=0xfffffffffffff000 ends beyond 52-bit physical \
      addresses
      """
    ),
  ])
  func layoutErrorsAreErrorsOfTheCommandLine(regions: [String], message: String) {
    #expect(throws: VMCheckpointError(.invalidArgument, message)) {
      try RegionArgument.layout(regions.map { try RegionArgument.parse($0) })
    }
  }
}
