import Testing
import VMCheckpointTestSupport

/// Cores of any shape hold what a slow reader of ELF finds in them, after a save and a restore too.
@Suite struct ELFPropertyTests {
  /// A core of a guest whose memory is one image, of which loads show parts.
  private func randomCore(_ generator: inout TestGenerator) -> ELFBuilder {
    let pageCount = generator.int(4...20)
    let image = generator.mixedImage(pageCount: pageCount)
    let base = UInt64([0, 0x10_0000, 0xffff_8000, 1 << 40].randomElement(using: &generator)!)
    var elf = ELFBuilder()
    elf.gapByteCount = generator.int(0...200)
    elf.paddingByteCount = generator.int(0...5000)
    elf.hasExtendedCount = generator.oneIn(4)
    if generator.oneIn(2) {
      elf.notes(ELFBuilder.note("CORE", 1, [UInt8](repeating: 1, count: generator.int(0...400))))
    }
    // Aligned in one half of all cores.
    let isAligned = generator.oneIn(2)
    for _ in 0..<generator.int(1...6) {
      var start = generator.int(0...(image.count - 1))
      var end = generator.int((start + 1)...image.count)
      if isAligned {
        start = start / 4096 * 4096
        end = (end + 4095) / 4096 * 4096
      }
      // What is not in the file must be zero in the image, or loads would not agree.
      var fileEnd = end
      while fileEnd > start, image[fileEnd - 1] == 0 { fileEnd -= 1 }
      if generator.oneIn(2) { fileEnd = end }
      elf.load(
        base + UInt64(start),
        Array(image[start..<fileEnd]),
        memoryByteCount: UInt64(end - start)
      )
    }
    return elf
  }

  @Test func anyCoreIsReadAsASlowReaderReadsIt() throws {
    for seed in 1...UInt64(soakRounds(24)) {
      let bench = try Workbench()
      var generator = TestGenerator(seed: seed)
      let bytes = randomCore(&generator).bytes
      let model = ELFModel(bytes)
      let path = try bench.write("x.elf", bytes)
      let saved = try bench.tool.run("save", path, "--name", "a")
      #expect(saved.succeeded, "seed \(seed): \(saved)")
      #expect(
        try bench.absentPFNs(of: "a") == Set(model.pages.keys).subtracting(model.pagesInFile),
        "seed \(seed)"
      )
      let target = bench.directory.file("again.elf")
      let restored = try bench.tool.run("restore", "a", "-o", target, "--format", "elf")
      #expect(restored.succeeded, "seed \(seed): \(restored)")
      let again = ELFModel(try readFile(target))
      #expect(again.pages == model.pages, "seed \(seed)")
      #expect(again.notes == model.notes, "seed \(seed)")
      #expect(again.loads.allSatisfy { $0.fileByteCount == $0.memoryByteCount }, "seed \(seed)")
      // What is written is read from a pipe.
      let piped = try bench.tool.json("save", "elf:-", "--name", "b", input: .file(target))
      #expect(piped["new_pages"] as? Int == 0, "seed \(seed)")
    }
  }
}
