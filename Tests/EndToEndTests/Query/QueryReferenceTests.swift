import Testing
import VMCheckpointTestSupport

/// Queries against slow counts over all pages, on random stores that were collected and repacked.
@Suite struct QueryReferenceTests {
  private static func ram(_ generator: inout TestGenerator) -> LabelledRAM {
    var labels: [Int] = []
    while labels.count < 200 {
      let label = generator.oneIn(3) ? 0 : generator.int(1...60)
      for step in 0..<generator.int(1...20) {
        labels.append(label == 0 ? 0 : label + step * generator.int(0...1))
      }
    }
    let cut = generator.int(1...150)
    return LabelledRAM(low: Array(labels[..<cut]), high: Array(labels[cut..<200]))
  }

  /// Some pages of `ram` set, cleared or moved.
  private static func changed(_ ram: LabelledRAM, _ generator: inout TestGenerator) -> LabelledRAM {
    var result = ram
    for _ in 0..<generator.int(0...30) {
      let label = generator.oneIn(3) ? 0 : generator.int(1...90)
      if generator.oneIn(2) {
        result.low[generator.int(0...(ram.low.count - 1))] = label
      } else {
        result.high[generator.int(0...(ram.high.count - 1))] = label
      }
    }
    return result
  }

  @Test(.slow, arguments: 0..<soakRounds(4))
  func queriesCountAsOneWouldByHand(round: Int) throws {
    var generator = TestGenerator(seed: UInt64(round + 100))
    let bench = try Workbench()
    let first = Self.ram(&generator)
    let a = Self.changed(first, &generator)
    let b = Self.changed(a, &generator)
    let c = Self.changed(Self.ram(&generator), &generator)
    try bench.save("gone", vm: "one", first)
    try bench.save("a", vm: "one", a)
    try bench.save("b", vm: "one", b)
    try bench.save("c", vm: "two", c)
    try bench.tool.succeed("delete", "gone")
    try bench.tool.succeed("gc")

    for (region, row) in zip(["low", "high"], try bench.answer("region-pages", "a")) {
      let stored = a.stored(region)
      let count = region == "low" ? a.low.count : a.high.count
      let distinct = Set(stored.values).count
      let expected: [Int] = [count, count - stored.count, distinct, stored.count - distinct, 0]
      #expect(row[2...].map { Int($0) } == expected)
    }
    for (region, row) in zip(["low", "high"], try bench.answer("changes", "a", "b")) {
      let (old, new) = (a.stored(region), b.stored(region))
      let both = old.keys.filter { new[$0] != nil }
      let unchanged = both.filter { old[$0] == new[$0] }.count
      let expected: [Int] = [
        new.count - both.count, old.count - both.count, both.count - unchanged, unchanged, 0,
      ]
      #expect(row[3...].map { Int($0) } == expected)
    }
    for (region, row) in zip(["low", "high"], try bench.answer("shared-pages", "a", "c")) {
      let stored = a.stored(region)
      let theirs = c.labels.filter { $0.value != 0 }
      let contents = Set(theirs.values)
      let expected: [Int] = [
        stored.count, stored.values.filter { contents.contains($0) }.count,
        stored.filter { theirs[$0.key] == $0.value }.count,
      ]
      #expect(row[3...].map { Int($0) } == expected)
    }
    try expectChangedPages(bench, a, b)
    let ours = Set([a, b].flatMap(\.labels.values)).subtracting([0])
    let theirs = Set(c.labels.values).subtracting([0])
    let shared = try bench.answer("shared-by-vms", "one", "two")[0]
    #expect(shared[1] == "\(ours.count)")
    #expect(shared[3] == "\(theirs.count)")
    #expect(shared[4] == "\(ours.intersection(theirs).count)")
  }

  private func expectChangedPages(_ bench: Workbench, _ a: LabelledRAM, _ b: LabelledRAM) throws {
    var expected: [Int: String] = [:]
    for (pfn, label) in b.labels {
      let old = a.labels[pfn] ?? 0
      guard old != label else { continue }
      expected[pfn] = old == 0 ? "added" : label == 0 ? "zeroed" : "changed"
    }
    var found: [Int: String] = [:]
    var end = -1
    var last = ""
    for row in try bench.answer("changed-pages", "a", "b", "10000") {
      let (firstPFN, lastPFN) = (try #require(Int(row[0])), try #require(Int(row[1])))
      // Neighbours of one class are one range.
      #expect(firstPFN >= end && !(firstPFN == end && row[3] == last))
      #expect(lastPFN - firstPFN + 1 == Int(row[2]))
      for pfn in firstPFN...lastPFN { found[pfn] = row[3] }
      (end, last) = (lastPFN + 1, row[3])
    }
    #expect(found == expected)
  }
}
