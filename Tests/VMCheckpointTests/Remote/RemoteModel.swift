/// The protocol of pushes and collections as a machine of states: every order of events of pushes, two collectors, a user
/// who deletes, hosts that stop for longer than a lease, and somebody who copies the bucket.
///
/// Pack 0 is old, and a snapshot needs it that may be deleted at any time. Pushes may find it by what they know, which
/// may be stale, and each brings a pack of its own.
///
/// A collector does what `RemoteCollector` does, in its order, and may be killed between any two steps:
///
/// 1. It lists the lists of condemned packs, then reads them. One that is deleted in between it may have read or not.
/// 2. It looks at the manifests and packs, and puts a list of those that are unneeded and on no list that it has read.
/// 3. It waits for the pushes that began before the earliest list of a pack, or leaves that pack to a later collection.
/// 4. It looks at the manifests again, then deletes.
/// 5. It merges the lists of the first step, and its own: it deletes lists, one at a time, then it may put a merged one.
///    Here two lists are enough for that, of which neither contains the other; the product lets eight be.
///
/// A push lists the lists, and reads them later: those that were deleted in between it misses. The number of lists that
/// may ever be put is limited; collections go on without end.
///
/// Left out: a deleted snapshot that comes back from a backup, and new times that give lists another order, both while a
/// collection runs; waits by more than one list of a pack, which only let fewer things happen.
struct RemoteModel {
  /// Each is a rule of the protocol (see ``RemoteSession``); a model without one must lose something.
  enum Rule: CaseIterable {
    /// A collection waits for the sessions that it has found.
    case collectionsWait
    /// The session is there before the condemned packs are read.
    case sessionComesFirst
    /// A collection looks at the manifests again before it deletes.
    case secondMark
    /// A manifest that came after its deadline does not count.
    case lateIsVoid
    /// A push uses no pack that it has read was condemned.
    case condemnedIsNotUsed
    /// A session that is put again after its deadline is over.
    case lateRenewalEnds
    /// A collection that finds manifests void that were valid once deletes nothing.
    case copiesAreRefused
    /// It does not do so either where it finds that only when it looks again.
    case copiesAreRefusedAgain
    /// A collection waits for pushes because of the lists of others too: those may have been killed while they waited.
    case takenUpIsAwaited
    /// A list is deleted only after one with all of its packs was put.
    case mergedComesFirst
    /// That one is older than a lease and a margin by then, so that whoever has listed the lists before is late.
    case mergedIsOld
    /// A push puts its session again only when it has read all lists. Without that nobody is late by then.
    case readingIsNotRenewed
    /// All collectors keep the same one of equal lists.
    case oneOfEqualStays
    /// Only lists are deleted that were read, and are contained in another.
    case onlyContainedGo
    /// A merged list is as old as itself: who began before it was put may have missed what it says.
    case mergedHasItsOwnTime
    /// A merged list has packs that are gone as well: somebody may still think that they are there.
    case goneStaysCondemned
  }

  /// How much there is of what; all of it together has too many states for a test.
  struct Setting {
    var pushCount: Int
    /// So many lists may ever be put.
    var listLimit: Int
    /// Whether there is a pack that nobody needs or knows of, so that lists differ.
    var hasLeftover: Bool

    static let twoPushes = Setting(pushCount: 2, listLimit: 2, hasLeftover: false)
    static let merging = Setting(pushCount: 1, listLimit: 3, hasLeftover: true)
  }

  let setting: Setting
  private let broken: Rule?

  init(_ setting: Setting, without broken: Rule? = nil) {
    self.setting = setting
    self.broken = broken
  }

  func keeps(_ rule: Rule) -> Bool { broken != rule }

  /// Looks at all states that can come.
  ///
  /// - Returns: How many there are, and how many steps lead to one in which a snapshot has lost a pack; `nil` for none.
  func explore() -> (stateCount: Int, stepsToLoss: Int?) {
    let start = State(packs: setting.hasLeftover ? 0b1001 : 0b0001)
    let lateIsOver = keeps(.lateIsVoid) && keeps(.lateRenewalEnds)
    var seen: Set<State.Key> = [start.key]
    var front = [start]
    var depth = 0
    while !front.isEmpty {
      var next: [State] = []
      for state in front {
        if !state.isSafe { return (seen.count, depth) }
        step(state) { successor in
          var successor = successor
          successor.forgetPast(lateIsOver: lateIsOver)
          if seen.insert(successor.key).inserted { next.append(successor) }
        }
      }
      front = next
      depth += 1
    }
    return (seen.count, nil)
  }

  /// Calls `go` with each state that may come next.
  private func step(_ state: State, _ go: (State) -> Void) {
    func change(_ change: (inout State) -> Void) {
      var copy = state
      change(&copy)
      go(copy)
    }
    for index in 0..<setting.pushCount { stepPush(index, state, go) }
    for index in 0..<2 { stepCollection(index, state, go) }
    if state.oldSnapshotIsThere { change { $0.oldSnapshotIsThere = false } }
    // Once, while nobody pushes: a copy of a bucket that is written to is none.
    if !state.wasCopied, !state.hasPush(where: \.hasBegun) {
      change { ($0.isCopied, $0.wasCopied) = (true, true) }
    }
    // Adopting puts the manifests again whose packs are there.
    if state.isCopied { change { $0.isCopied = false } }
  }

  // MARK: Pushes

  private func stepPush(_ index: Int, _ state: State, _ go: (State) -> Void) {
    let push = state.pushes[index]
    func change(_ change: (inout Push, inout State) -> Void) {
      var (push, state) = (push, state)
      change(&push, &state)
      state.pushes[index] = push
      go(state)
    }
    // Nobody pushes to a copy before it is adopted.
    guard !state.isCopied else { return }
    switch push.stage {
    case .start:
      if keeps(.sessionComesFirst) {
        change { push, _ in push.stage = .begun }
      } else {
        change { push, state in
          (push.stage, push.knowsCondemned) = (.early, state.packs(on: state.listsThere) & 1 != 0)
        }
      }
    case .early: change { push, _ in push.stage = .knowing }
    case .begun: change { push, state in (push.stage, push.listed) = (.reading, state.listsThere) }
    case .reading:
      change { push, state in
        push.knowsCondemned = state.packs(on: push.listed & state.listsThere) & 1 != 0
        (push.stage, push.listed) = (.knowing, 0)
      }
    case .knowing:
      func upload(needsOld: Bool) {
        change { push, state in
          (push.stage, push.knowsCondemned, push.needsOld) = (.uploaded, false, needsOld)
          state.packs |= State.ownPack(ofPush: index)
        }
      }
      upload(needsOld: false)
      // By what it knows, it finds the old pack, which may be gone.
      if !push.knowsCondemned || !keeps(.condemnedIsNotUsed) { upload(needsOld: true) }
    case .uploaded:
      if !push.isLate || !keeps(.lateIsVoid) {
        // Its session ends with that. One that stays for longer only makes others wait.
        change { push, _ in (push.stage, push.isLate) = (.committed, false) }
      }
    case .committed, .ended: break
    }
    guard push.hasBegun else { return }
    if push.isLate {
      change { push, _ in push = Push(stage: .ended) }
      if !keeps(.lateRenewalEnds) { change { push, _ in push.isLate = false } }
    } else {
      change { push, _ in push.isLate = true }
    }
  }
}
