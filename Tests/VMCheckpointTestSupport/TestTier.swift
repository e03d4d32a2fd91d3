package import Testing

/// How much of the suite runs: all of it, or the quick tier, for which `Scripts/test --quick` sets
/// VMCKPT_TIER to `quick`.
///
/// A suite or test that the quick tier leaves out says why by a trait: `@Suite(.slow)`, `@Test(.guest)`.
/// `swift test` has no filter by tag, so that the traits are conditions, and no tags stand beside them.
/// Without the variable they do nothing.
package enum TestTier {
  /// What a skipped test says first. `Scripts/test --quick` counts these.
  package static let mark = "not in the quick tier"

  /// Whether only the quick tier runs.
  package static var isQuick: Bool { environmentValue("VMCKPT_TIER") == "quick" }

  fileprivate static func leavesOut(_ reason: String) -> ConditionTrait {
    .disabled(if: isQuick, "\(mark): \(reason)")
  }
}

extension Trait where Self == ConditionTrait {
  /// For what takes more than about two seconds of processor time in a debug build.
  package static var slow: Self { TestTier.leavesOut("slow") }

  /// For what needs the images of a real guest, or boots one in QEMU: VMCKPT_GUEST_DIR.
  package static var guest: Self { TestTier.leavesOut("guest") }

  /// For what runs a guest in KVM: `/dev/kvm`.
  package static var kvm: Self { TestTier.leavesOut("kvm") }
}
