import Testing
import VMCheckpointCore
import VMCheckpointTestSupport

/// A real guest whose kernel's memory is damaged where walks read it, as in a copy that was made while it ran.
@Suite(.guest, .slow) struct CorruptGuestTests {
  @Test func tornListsAndTreesCostRowsAndNeitherCrashNorHang() throws {
    let ram = try FlatGuestRAM(readFile(GuestImages().moments[0]))
    let kernel = try #require(try GuestSystem.find(in: ram).kernel)
    let whole = try Rows(kernel)
    #expect(whole.notes == 0)
    ram.forgetReads()
    _ = try Rows(kernel)
    let words = CorruptGuest.words(ram)
    #expect(words.count > 10_000)

    var random = OverlayTestGenerator(seed: 29)
    var noteCount = 0
    for round in 0..<60 {
      let undo = CorruptGuest.corrupt(ram, words, count: [1, 10, 100, 1000][round % 4], &random)
      kernel.forgetTranslations()
      // Symbols and types may be among what is damaged: then a table may have nothing to say.
      if let rows = try? Rows(kernel) { noteCount += rows.notes }
      for (place, value) in undo.reversed() { CorruptGuest.put(ram, place, value) }
    }
    #expect(noteCount > 0)
    kernel.forgetTranslations()
    #expect(try Rows(kernel) == whole)
  }

  /// How many rows each table has, and how many have a note.
  private struct Rows: Equatable {
    var counts: [Int] = []
    var notes = 0

    init(_ kernel: GuestKernel) throws {
      try add(kernel) { try kernel.openFiles().map(\.note) }
      try add(kernel) { try kernel.mappings().map(\.note) }
      try add(kernel) { try kernel.sockets().map(\.note) }
      try add(kernel) { try kernel.networkDevices().map(\.note) }
      try add(kernel) { try kernel.mounts().map(\.note) }
      try add(kernel) { try kernel.modules().map(\.note) }
      try add(kernel) { try kernel.logRecords().map(\.note) }
    }

    private mutating func add(_ kernel: GuestKernel, _ read: () throws -> [String?]) throws {
      kernel.begin()
      let rows = try read()
      counts.append(rows.count)
      notes += rows.count { $0 != nil }
    }
  }
}
