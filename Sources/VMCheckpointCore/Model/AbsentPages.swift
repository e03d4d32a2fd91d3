import Algorithms

/// The pages of a guest's RAM that a dump left out, such as those that makedumpfile filters. Their content is
/// unknown, which is not the same as zero.
///
/// A snapshot keeps them as runs in the table `absent_range`. No extent holds an absent page; a restore writes
/// zeros in its place and warns.
public struct AbsentPages: Sendable, Hashable {
  /// Runs of PFNs in ascending order; no two touch or overlap.
  public private(set) var runs: [Range<UInt64>] = []
  /// How many pages all runs have together.
  public private(set) var pageCount: UInt64 = 0

  /// More runs than this are not kept: 256 MiB of them.
  package static let maximumRunCount = 1 << 24

  /// No page is absent.
  public init() {}

  /// Whether no page is absent.
  public var isEmpty: Bool { runs.isEmpty }

  /// Adds pages that come after all that were added before.
  ///
  /// - Precondition: `run` does not begin before the end of the last one.
  package mutating func append(_ run: Range<UInt64>) {
    guard !run.isEmpty else { return }
    pageCount += UInt64(run.count)
    if let last = runs.last, last.upperBound >= run.lowerBound {
      precondition(last.upperBound == run.lowerBound, "absent pages must ascend")
      runs[runs.count - 1] = last.lowerBound..<run.upperBound
    } else {
      runs.append(run)
    }
  }

  /// Whether the page is absent.
  ///
  /// - Complexity: O(log *n*) in the number of runs.
  public func contains(_ pfn: PFN) -> Bool {
    run(endingAfter: pfn.rawValue)?.contains(pfn.rawValue) ?? false
  }

  /// The run that holds `pfn`, or else the next one.
  ///
  /// - Complexity: O(log *n*) in the number of runs.
  package func run(endingAfter pfn: UInt64) -> Range<UInt64>? {
    let index = runs.partitioningIndex { $0.upperBound > pfn }
    return index < runs.count ? runs[index] : nil
  }

  /// Without the pages at `pfns`, which ascend.
  package func removing(_ pfns: some Sequence<UInt64>) -> AbsentPages {
    var result = AbsentPages()
    var rest = runs[...]
    var next: UInt64 = 0
    for pfn in pfns {
      while let run = rest.first, run.upperBound <= pfn {
        let first = max(run.lowerBound, next)
        if first < run.upperBound { result.append(first..<run.upperBound) }
        rest.removeFirst()
      }
      guard let run = rest.first, run.contains(pfn) else { continue }
      if pfn > max(run.lowerBound, next) { result.append(max(run.lowerBound, next)..<pfn) }
      next = pfn + 1
    }
    for run in rest where run.upperBound > next {
      result.append(max(run.lowerBound, next)..<run.upperBound)
    }
    return result
  }

  /// The pages that are absent here, or in `other`, or in both.
  package func union(_ other: AbsentPages) -> AbsentPages {
    var result = AbsentPages()
    var end: UInt64 = 0
    for run in merge(runs, other.runs) where run.upperBound > end {
      result.append(max(run.lowerBound, end)..<run.upperBound)
      end = run.upperBound
    }
    return result
  }

  /// Two ascending lists as one, by the runs' beginnings.
  private func merge(_ a: [Range<UInt64>], _ b: [Range<UInt64>]) -> [Range<UInt64>] {
    (a + b).sorted { $0.lowerBound < $1.lowerBound }
  }

  /// What is wrong with these as the absent pages of a guest with `layout`, if something is.
  package func problem(in layout: RAMLayout) -> String? {
    for run in runs {
      guard run.upperBound <= PFN.max.rawValue + 1,
        layout.isRAM(
          from: PFN(unchecked: run.lowerBound),
          through: PFN(unchecked: run.upperBound - 1)
        )
      else {
        return "the absent pages at PFN \(hexString(run.lowerBound)) are not RAM"
      }
    }
    return nil
  }
}
