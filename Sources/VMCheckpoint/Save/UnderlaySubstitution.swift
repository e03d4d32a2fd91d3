import Algorithms
import Synchronization

/// Puts what lies beneath the overlays that captured RAM shows in their place, before pages are
/// scanned, and compares what RAM shows with what the overlays' parameters derive.
///
/// A page whose record gives no underlay is bare already and stays as it is; one whose underlay is
/// unknown is baked: its bytes are kept.
final class UnderlaySubstitution: Sendable {
  private struct PageRule {
    var pfn: UInt64
    /// The overlay that the guest saw.
    var active: Overlay
    /// `nil`: RAM is bare there, it says.
    var underlay: CapturedUnderlay?
    /// RAM shows nothing there that could be compared.
    var isAbsent: Bool
  }

  /// Ascending by PFN.
  private let rules: [PageRule]
  private let mismatches = Mutex<[UInt64]>([])
  /// Where RAM shows an overlay that is not said to be there.
  private let coverings = Mutex<[UInt64]>([])

  /// - Parameter absent: The pages that the source leaves out.
  init(plan: OverlayPlan, absent: AbsentPages) {
    rules = plan.stacks.compactMap { stack in
      guard stack.isInRAM, let active = stack.overlays.first else { return nil }
      return PageRule(
        pfn: stack.pfn.rawValue,
        active: active,
        underlay: stack.underlay,
        isAbsent: absent.contains(stack.pfn)
      )
    }
  }

  /// The PFNs that must be read even where the source has a hole.
  var pfns: [UInt64] { rules.filter { $0.underlay != nil }.map(\.pfn) }

  /// The PFNs whose underlay is given, ascending: known pages, whatever the source has.
  var givenPFNs: [UInt64] { rules.filter { Self.isGiven($0.underlay) }.map(\.pfn) }

  /// The underlay that is given for a page; `nil`: RAM has what counts there.
  func given(at pfn: PFN) -> CapturedUnderlay? {
    rules.first { $0.pfn == pfn.rawValue && Self.isGiven($0.underlay) }?.underlay
  }

  private static func isGiven(_ underlay: CapturedUnderlay?) -> Bool {
    underlay != nil && underlay != .unknown
  }

  /// Whether there is a rule for a page of the window.
  ///
  /// - Complexity: O(log *n*) in the number of rules.
  func concerns(_ window: RAMWindow) -> Bool {
    let index = rules.partitioningIndex { $0.pfn >= window.firstPFN }
    return index < rules.count && rules[index].pfn < window.endPFN
  }

  /// Applies the rules for the window's pages.
  ///
  /// - Complexity: O(log *n*) in the number of rules for a window without any.
  func apply(to window: RAMWindow) {
    var index = rules.partitioningIndex { $0.pfn >= window.firstPFN }
    while index < rules.count, rules[index].pfn < window.endPFN {
      let rule = rules[index]
      let page = window.page(Int(rule.pfn - window.firstPFN))
      if !rule.isAbsent {
        let shows = Self.shows(rule, page)
        if rule.underlay == nil, shows { coverings.withLock { $0.append(rule.pfn) } }
        if rule.underlay != nil, !shows { mismatches.withLock { $0.append(rule.pfn) } }
      }
      switch rule.underlay {
      case .zero: page.initializeMemory(as: UInt8.self, repeating: 0)
      case .page(let contents): contents.withUnsafeBytes { page.copyMemory(from: $0) }
      case .unknown, nil: break
      }
      index += 1
    }
  }

  /// One line for each page, however often it was read, in ascending order, that does not show what its overlay derives.
  func warnings() -> [String] {
    coverings.withLock { Set($0).sorted() }.map { pfn in
      """
      RAM at PFN \(hexString(pfn)) shows the very bytes of its overlay, and its record says that RAM is bare there: \
      give the record an "underlay", which is "unknown" where the overlay was written over RAM
      """
    } + mismatchWarnings()
  }

  private func mismatchWarnings() -> [String] {
    mismatches.withLock { Set($0).sorted() }.compactMap { pfn in
      guard let rule = rules.first(where: { $0.pfn == pfn }) else { return nil }
      return """
        RAM at PFN \(hexString(pfn)) does not show the bytes of its \(rule.active.kind.rawValue) \
        overlay; \(Self.consequence(rule.underlay))
        """
    }
  }

  private static func consequence(_ underlay: CapturedUnderlay?) -> String {
    switch underlay {
    case nil, .zero, .page: "the underlay that was given is stored in their place"
    case .unknown: "the bytes in RAM are kept, as its underlay is unknown"
    }
  }

  /// A hypervisor that bakes overlays into RAM writes only the bytes that the kind determines; one
  /// with real overlays covers the whole page.
  private static func shows(_ rule: PageRule, _ page: UnsafeMutableRawBufferPointer) -> Bool {
    let count = isGiven(rule.underlay) ? Page.byteCount : rule.active.determinedByteCount
    return rule.active.contents().withUnsafeBytes { expected in
      // Zeros are bare RAM as well as an overlay of zeros.
      if rule.underlay == nil, expected[..<count].allSatisfy({ $0 == 0 }) { return false }
      return expected[..<count].elementsEqual(UnsafeRawBufferPointer(page)[..<count])
    }
  }
}
