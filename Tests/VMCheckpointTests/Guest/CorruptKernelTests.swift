import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointTestSupport

/// A guest's memory is what the guest wrote: pointers that lead anywhere must not crash or hang who follows them.
@Suite struct CorruptKernelTests {
  @Test(.slow) func corruptedPointersNeitherCrashNorHang() throws {
    let guest = SyntheticGuest()
    let ram = try FlatGuestRAM(guest.ram)
    let kernel = try #require(try GuestSystem.find(in: ram).kernel)
    ram.forgetReads()
    CorruptGuest.readEverything(kernel)
    // All words in pages that walks read, and those of the page array that mean something.
    let words = CorruptGuest.words(ram)
    #expect(words.count > 300)
    var random = OverlayTestGenerator(seed: 17)
    for round in 0..<300 {
      let undo = CorruptGuest.corrupt(ram, words, count: [1, 3, 10, 100][round % 4], &random)
      CorruptGuest.readEverything(kernel)
      for (place, value) in undo.reversed() { CorruptGuest.put(ram, place, value) }
    }
    #expect(ram.bytes == guest.ram)
    #expect(try kernel.processes().count == 3)
  }

  @Test(.slow) func aCorruptedKernelIsLookedForWithoutACrash() throws {
    let guest = SyntheticGuest(.after)
    let ram = try FlatGuestRAM(guest.ram)
    _ = try GuestSystem.find(in: ram)
    let words = CorruptGuest.words(ram)
    var random = OverlayTestGenerator(seed: 5)
    for round in 0..<12 {
      let undo = CorruptGuest.corrupt(ram, words, count: [1, 100][round % 2], &random)
      if let kernel = try GuestSystem.find(in: ram).kernel { CorruptGuest.readEverything(kernel) }
      for (place, value) in undo.reversed() { CorruptGuest.put(ram, place, value) }
    }
  }
}
