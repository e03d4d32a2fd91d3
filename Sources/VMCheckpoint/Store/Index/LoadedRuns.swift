package import GRDB

/// The active runs of the page index with what of them is in memory: all fences, and the sections of
/// filters that were asked.
///
/// Filters take 1.6 bytes a page and are bounded: of a store that is too large, two or four lines share
/// one. Where even that does not fit, the rest of the prefixes' range goes without.
package final class LoadedRuns {
  /// 32 MiB: whole filters of 20 million pages, 80 GB of distinct content.
  package static let filterMemoryByteCount = 32 << 20

  /// Four lines share one at most: with more, a filter would say "perhaps" to almost all.
  private static let maximumFoldShift = 2

  /// Sections are read in groups of so many: a caller that asks for one soon asks for its neighbours.
  private static let sectionsPerGroup = 32

  /// Nothing that is counted, so that going through runs costs nothing else.
  package struct Run {
    fileprivate let firstBlockID: Int64
    let fences: UnsafeMutableBufferPointer<UInt64>
    fileprivate let filterLineCount: UInt64
    /// Of these there is room in memory for what they say.
    fileprivate let coveredLineCount: Int
    /// All three.
    fileprivate let memory: UnsafeMutableRawBufferPointer
    fileprivate let lines: UnsafeMutablePointer<UInt64>
    fileprivate let sections: UnsafeMutableBufferPointer<SectionState>

    func blockID(_ block: Int) -> Int64 { firstBlockID + Int64(block) }

    /// The first block that may hold `prefix`: equal prefixes may cross a border between blocks.
    ///
    /// Prefixes of SHA-256 are spread evenly, so that the place is known to within a few blocks; the
    /// search goes on from there with steps that double.
    ///
    /// - Complexity: O(log *n*) in the number of blocks, whatever the prefixes.
    func firstBlock(for prefix: UInt64) -> Int {
      let count = fences.count
      guard count > 1 else { return 0 }
      let guess = Int(prefix.multipliedFullWidth(by: UInt64(count)).high)
      // The first fence that is not below `prefix` is in low...high.
      var (low, high, step) = (guess, guess, 1)
      if fences[guess] < prefix {
        low += 1
        high = low
        while high < count, fences[high] < prefix {
          low = high + 1
          high = min(count, low + step)
          step *= 2
        }
      } else {
        while low > 0, fences[low - 1] >= prefix {
          high = low - 1
          low = max(0, high - step)
          step *= 2
        }
      }
      while low < high {
        let middle = (low + high) / 2
        if fences[middle] < prefix { low = middle + 1 } else { high = middle }
      }
      return max(0, low - 1)
    }
  }

  fileprivate enum SectionState: UInt8 {
    case unread
    case read
    /// It is missing, or does not make sense.
    case missing
  }

  /// The newest first.
  package let runs: UnsafeMutableBufferPointer<Run>
  private let selectFilters: HotStatement
  private let foldShift: Int

  /// Loads the fences. The newest run comes first: a page is likeliest to be where its VM's last
  /// snapshot put it.
  package init(_ database: Database, filterMemoryByteCount: Int) throws {
    let active = try IndexRun.fetchActive(database)
    selectFilters = try HotStatement(
      database,
      "SELECT id, bits FROM page_index_filter WHERE id BETWEEN ? AND ? ORDER BY id"
    )
    var freeLineCount = filterMemoryByteCount / IndexFilter.lineByteCount
    let lineCount = active.reduce(0) { $0 + Int($1.filterLineCount) }
    let foldShift =
      (0..<Self.maximumFoldShift).first { lineCount >> $0 <= freeLineCount }
      ?? Self.maximumFoldShift
    self.foldShift = foldShift
    var loaded: [Run] = []
    for run in active.reversed() {
      let keptLineCount = min(
        freeLineCount,
        Self.kept(Int(run.filterLineCount), foldShift: foldShift)
      )
      freeLineCount -= keptLineCount
      let covered = min(Int(run.filterLineCount), keptLineCount << foldShift)
      let sectionCount = IndexFilter.sectionCount(ofLines: UInt64(covered))
      // Memory that nothing is written to takes none: that of the lines comes first.
      let linesByteCount = keptLineCount * IndexFilter.lineByteCount
      let fencesByteCount = run.fences.count * MemoryLayout<UInt64>.stride
      let memory: UnsafeMutableRawBufferPointer
      do throws(VMCheckpointError) {
        memory = try LargeMemory.allocate(
          byteCount: linesByteCount + fencesByteCount + sectionCount,
          alignment: IndexFilter.lineByteCount
        )
      } catch {
        for run in loaded { LargeMemory.free(run.memory) }
        throw error
      }
      let base = memory.baseAddress!
      let lines = base.bindMemory(to: UInt64.self, capacity: linesByteCount / 8)
      let fences = UnsafeMutableBufferPointer(
        start: (base + linesByteCount).bindMemory(to: UInt64.self, capacity: run.fences.count),
        count: run.fences.count
      )
      _ = fences.initialize(from: run.fences)
      let sections = UnsafeMutableBufferPointer(
        start: (base + linesByteCount + fencesByteCount)
          .bindMemory(to: SectionState.self, capacity: sectionCount),
        count: sectionCount
      )
      sections.initialize(repeating: .unread)
      loaded.append(
        Run(
          firstBlockID: run.firstBlockID,
          fences: fences,
          filterLineCount: run.filterLineCount,
          coveredLineCount: covered,
          memory: memory,
          lines: lines,
          sections: sections
        )
      )
    }
    runs = .allocate(capacity: loaded.count)
    _ = runs.initialize(from: loaded)
  }

  deinit {
    for run in runs { LargeMemory.free(run.memory) }
    runs.deallocate()
  }

  /// `false`: the run has no entry with this prefix. Reads sections of its filter when they are first
  /// asked for.
  @inline(__always)
  package func mayHold(_ prefix: UInt64, _ run: Run) throws -> Bool {
    let line = IndexFilter.line(of: prefix, lineCount: run.filterLineCount)
    guard line < run.coveredLineCount else { return true }
    let section = line / IndexFilter.linesPerSection
    if run.sections[section] != .read {
      if run.sections[section] == .unread { try readGroup(holding: section, of: run) }
      if run.sections[section] == .missing { return true }
    }
    let kept = line &>> foldShift
    return IndexFilter.has(prefix, in: run.lines + kept &* IndexFilter.wordsPerLine)
  }

  /// Whether memory alone shows that the run has no entry with this prefix.
  @inline(__always)
  func isKnownNotToHold(_ prefix: UInt64, _ run: Run) -> Bool {
    let line = IndexFilter.line(of: prefix, lineCount: run.filterLineCount)
    guard line < run.coveredLineCount,
      run.sections[line / IndexFilter.linesPerSection] == .read
    else { return false }
    let kept = line &>> foldShift
    return !IndexFilter.has(prefix, in: run.lines + kept &* IndexFilter.wordsPerLine)
  }

  /// How many lines in memory hold `lineCount` lines.
  private func kept(_ lineCount: Int) -> Int {
    Self.kept(lineCount, foldShift: foldShift)
  }

  private static func kept(_ lineCount: Int, foldShift: Int) -> Int {
    (lineCount + (1 << foldShift) - 1) >> foldShift
  }

  private func readGroup(holding section: Int, of run: Run) throws {
    let first = section / Self.sectionsPerGroup * Self.sectionsPerGroup
    let end = min(first + Self.sectionsPerGroup, run.sections.count)
    for section in first..<end { run.sections[section] = .missing }
    // A group has a multiple of four lines, so that no line in memory is another group's too.
    let firstKept = (first * IndexFilter.linesPerSection) >> foldShift
    let endLine = min(end * IndexFilter.linesPerSection, run.coveredLineCount)
    (run.lines + firstKept * IndexFilter.wordsPerLine).initialize(
      repeating: 0,
      count: (kept(endLine) - firstKept) * IndexFilter.wordsPerLine
    )
    selectFilters.bind(run.firstBlockID + Int64(first), at: 1)
    selectFilters.bind(run.firstBlockID + Int64(end - 1), at: 2)
    defer { selectFilters.reset() }
    while try selectFilters.step() {
      let section = Int(selectFilters.int64(0) - run.firstBlockID)
      guard (first..<end).contains(section) else { continue }
      selectFilters.withBlob(1) { bits in
        let firstLine = section * IndexFilter.linesPerSection
        let lineCount = min(
          IndexFilter.linesPerSection,
          Int(run.filterLineCount) - firstLine
        )
        guard bits.count == lineCount * IndexFilter.lineByteCount, let base = bits.baseAddress
        else { return }
        for line in firstLine..<min(firstLine + lineCount, run.coveredLineCount) {
          let kept = run.lines + (line >> foldShift) * IndexFilter.wordsPerLine
          let stored = base + (line - firstLine) * IndexFilter.lineByteCount
          for word in 0..<IndexFilter.wordsPerLine {
            kept[word] |= stored.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self)
          }
        }
        run.sections[section] = .read
      }
    }
  }
}
