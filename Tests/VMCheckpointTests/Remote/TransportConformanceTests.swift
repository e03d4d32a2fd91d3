import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// What the remote's protocol rests on, of each transport and server.
@Suite struct TransportConformanceTests {
  private static let places = TransportPlace.all

  @Test(
    .enabled(
      if: environmentValue("CI") == "true" && !TestTier.isQuick,
      "only CI needs the real servers"
    )
  )
  func theRealServersAreThereInCI() {
    #expect(TransportPlace.missingServers == [], "start them with Scripts/object-store")
  }

  @Test(arguments: places)
  func whatIsPutIsReadWhole(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    var generator = TestGenerator(seed: 7)
    for count in [0, 1, 4096, 700_001] {
      let bytes = generator.bytes(count)
      let facts = try transport.put("packs/ab/\(count)", bytes)
      #expect(facts.byteCount == UInt64(count))
      let read = try #require(try transport.get("packs/ab/\(count)"))
      #expect(read.bytes == bytes)
      #expect(read.facts.byteCount == UInt64(count))
      #expect(read.facts.modifiedSeconds == facts.modifiedSeconds)
    }
  }

  @Test(arguments: places)
  func aPutTakesThePlaceOfAnObject(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    let first = try transport.put("sessions/s", Array("a longer one".utf8))
    let second = try transport.put("sessions/s", Array("short".utf8))
    #expect(try transport.get("sessions/s")?.bytes == Array("short".utf8))
    #expect(try transport.head("sessions/s")?.byteCount == 5)
    #expect(second.modifiedSeconds >= first.modifiedSeconds)
    #expect(try transport.keys() == ["sessions/s"])
  }

  @Test(arguments: places)
  func whatIsNotThereIsNotAnError(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    #expect(try transport.head("a/b") == nil)
    #expect(try transport.get("a/b") == nil)
    #expect(try transport.get("a/b", .suffix(count: 3)) == nil)
    #expect(try transport.keys() == [])
    #expect(try transport.keys("a/") == [])
    try transport.delete("a/b")
    try transport.put("a/b", [1])
    #expect(try transport.head("a/c") == nil)
    #expect(try transport.head("a/b/c") == nil)
    try transport.delete("a/c")
    #expect(try transport.keys() == ["a/b"])
  }

  @Test(arguments: places)
  func rangesAreTheirBytesAndNoMore(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 / 4) }
    try transport.put("o", bytes)
    func expect(_ range: RemoteRange, _ expected: Range<Int>, capacity: Int = 4096) throws {
      let read = try #require(try transport.get("o", range, capacity: capacity))
      #expect(read.bytes == Array(bytes[expected]), "\(range), capacity \(capacity)")
      #expect(read.facts.byteCount == 1000)
    }
    try expect(.bytes(offset: 0, count: 1), 0..<1)
    try expect(.bytes(offset: 300, count: 400), 300..<700)
    try expect(.bytes(offset: 990, count: 100), 990..<1000)
    try expect(.bytes(offset: 1000, count: 5), 1000..<1000)
    try expect(.bytes(offset: 1 << 40, count: 5), 1000..<1000)
    try expect(.bytes(offset: 5, count: 0), 5..<5)
    try expect(.suffix(count: 10), 990..<1000)
    try expect(.suffix(count: 1000), 0..<1000)
    try expect(.suffix(count: 5000), 0..<1000)
    // A buffer that is too small ends a read.
    try expect(.all, 0..<100, capacity: 100)
    try expect(.bytes(offset: 10, count: 500), 10..<110, capacity: 100)
    try transport.put("empty", [])
    for range in [RemoteRange.all, .bytes(offset: 0, count: 5), .suffix(count: 5)] {
      let read = try #require(try transport.get("empty", range))
      #expect(read.bytes == [] && read.facts.byteCount == 0)
    }
  }

  @Test(arguments: places)
  func aListHasAllThatWasPutAndNothingThatWasDeleted(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    var expected: [String] = []
    for index in 0..<30 {
      let key = "index/\(String(index + 100).dropFirst())"
      try transport.put(key, [UInt8](repeating: 1, count: index))
      expected.append(key)
      #expect(try transport.keys("index/") == expected)
    }
    let sizes = try transport.all("index/").facts.map(\.byteCount)
    #expect(sizes == (0..<30).map(UInt64.init))
    while let key = expected.popLast() {
      try transport.delete(key)
      #expect(try transport.head(key) == nil)
      #expect(try transport.keys("index/") == expected)
    }
  }

  @Test(arguments: places)
  func keysAreListedInOneOrder(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    var keys = [
      "B", "Z/q", "a-b", "a.b/z", "a/0", "a/x/y", "a/x0", "a0", "a_/k", "b/1", "b/10", "b/2",
      "packs/00/A", "packs/00/a", "packs/0a/x", "packs/a0/x",
    ]
    for key in keys.shuffled() { try transport.put(key, [1]) }
    if place == .seaweedfs {
      keys.sort {
        $0.split(separator: "/").map(String.init).lexicographicallyPrecedes(
          $1.split(separator: "/").map(String.init)
        )
      }
    }
    #expect(try transport.keys() == keys)
    #expect(try transport.keys("a/") == ["a/0", "a/x/y", "a/x0"])
    #expect(try transport.keys("packs/00/") == ["packs/00/A", "packs/00/a"])
    #expect(try transport.keys("b/", after: "b/1") == ["b/10", "b/2"])
    #expect(try transport.keys("b/", after: "b/1z") == ["b/2"])
    for (index, key) in keys.enumerated() {
      #expect(try transport.keys(after: key) == Array(keys[(index + 1)...]), "after \(key)")
    }
    #expect(try transport.keys("a/x/", after: "a/x/a") == ["a/x/y"])
    #expect(try transport.keys(after: "zzz") == [])
  }

  // Puts into a folder wait for the disk: FolderTransportTests has a long list of its own.
  @Test(.slow, arguments: places.filter { $0 != .folder })
  func aListOfMoreThanABatchIsWhole(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    let keys = (0..<1003).map { "index/\(10_000 + $0)" }
    try onThreads(8, count: keys.count) { index in
      try transport.put(keys[index], [1])
    }
    let all = try transport.all("index/")
    #expect(all.facts.map(\.key.text) == keys)
    #expect(all.batchCount == 2)
    // A reader that has enough is not given more.
    var batchCount = 0
    try transport.list("index/", after: nil) { _ throws(VMCheckpointError) in
      batchCount += 1
      return false
    }
    #expect(batchCount == 1)
  }

  @Test(arguments: places)
  func timesAreTheServersAndNeverGoBackwards(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    var last: Int64 = 0
    for index in 0..<5 {
      let put = try transport.put("t/\(index)", [1])
      let head = try #require(try transport.head("t/\(index)"))
      #expect(put.modifiedSeconds == head.modifiedSeconds)
      #expect(head.modifiedSeconds >= last && head.isCommitted)
      #expect(head.modifiedSeconds <= head.serverSeconds)
      last = head.modifiedSeconds
    }
    #expect(abs(last - Int64(time(nil))) < 600)
    let listed = try transport.all("t/").facts
    for facts in listed {
      #expect(try transport.head(facts.key)?.modifiedSeconds == facts.modifiedSeconds)
      #expect(facts.serverSeconds >= facts.modifiedSeconds)
    }
  }

  @Test(arguments: places)
  func threadsDoNotDisturbEachOther(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    try onThreads(8, count: 64) { index in
      var generator = TestGenerator(seed: UInt64(index))
      let bytes = generator.bytes(10_000 + index)
      try transport.put("p/\(index)", bytes)
      let read = try transport.get("p/\(index)", .bytes(offset: 5000, count: 100))
      guard read?.bytes == Array(bytes[5000..<5100]),
        try transport.get("p/\(index)")?.bytes == bytes
      else { throw TestSetupError("object \(index) is another's") }
      if index.isMultiple(of: 2) { try transport.delete("p/\(index)") }
    }
    #expect(try transport.keys().count == 32)
    // Of puts to one key one wins, whole.
    try onThreads(8, count: 32) { index in
      try transport.put("one", [UInt8](repeating: UInt8(index), count: 5000 + index))
    }
    let read = try #require(try transport.get("one"))
    #expect(Set(read.bytes).count == 1)
    #expect(read.bytes.count == 5000 + Int(read.bytes[0]))
  }

  @Test(arguments: places)
  func requestsAreCounted(_ place: TransportPlace) throws {
    let (transport, keeper) = try place.make()
    defer { withExtendedLifetime(keeper) {} }
    try transport.put("k", [1, 2, 3])
    _ = try transport.get("k")
    _ = try transport.head("k")
    _ = try transport.keys()
    try transport.delete("k")
    let counts = transport.requestCounts
    #expect(counts.puts == 1 && counts.gets == 1 && counts.lists == 1 && counts.deletes == 1)
    #expect(counts.sentByteCount >= 3 && counts.receivedByteCount >= 3)
    #expect(counts.retries == 0)
  }

  @Test(arguments: places)
  func aCancelledTransportEndsSoon(_ place: TransportPlace) throws {
    let flag = CancellationFlag()
    let (transport, keeper) = try place.make(cancellation: flag)
    defer { withExtendedLifetime(keeper) {} }
    try transport.put("k", [1])
    flag.cancel()
    let error = #expect(throws: VMCheckpointError.self) {
      try transport.put("k", [UInt8](repeating: 0, count: 1 << 20))
    }
    #expect(error?.code == .cancelled)
  }
}
