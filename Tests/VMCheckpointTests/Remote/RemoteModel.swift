/// The protocol of pushes and collections as a machine of states: every order of events of two pushes, two collections,
/// a user who deletes, hosts that stop for longer than a lease, and somebody who copies the bucket.
///
/// Pack 0 is old, and a snapshot needs it that may be deleted at any time. Pushes may find it by what they know, which
/// may be stale, and each brings a pack of its own.
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
  }

  enum Stage: UInt8 { case start, begun, knowing, uploaded, committed, ended }
  enum Work: UInt8 { case idle, marked, condemned, waiting, ready, done }

  struct Push: Hashable {
    var stage = Stage.start
    /// The condemned packs that it has read: bit *n* for pack *n*.
    var view: UInt8 = 0
    var hasView = false
    var needs: UInt8 = 0
    /// Its deadline is over, and so is a collection's patience with it.
    var isLate = false

    var isLive: Bool { stage != .start && stage != .ended && !isLate }
  }

  struct Collection: Hashable {
    var work = Work.idle
    var condemned: UInt8 = 0
    var awaited: UInt8 = 0
    var doomed: UInt8 = 0
  }

  struct State: Hashable {
    var pushes = [Push(), Push()]
    var collections = [Collection(), Collection()]
    var packs: UInt8 = 1
    /// What valid manifests need: the old one's, and those of pushes.
    var manifests: [UInt8] = [1, 0, 0]
    var condemned: UInt8 = 0
    /// The objects have new times, by which no manifest counts.
    var isCopied = false
    var wasCopied = false

    var needed: UInt8 { manifests.reduce(0) { $0 | $1 } }
    var isSafe: Bool { needed & ~packs == 0 }
  }

  let broken: Rule?

  init(without broken: Rule? = nil) { self.broken = broken }

  private func keeps(_ rule: Rule) -> Bool { broken != rule }

  /// Looks at all states that can come.
  ///
  /// - Returns: How many there are, and how many steps lead to one in which a snapshot has lost a pack; `nil` for none.
  func explore() -> (stateCount: Int, stepsToLoss: Int?) {
    var seen: Set<State> = [State()]
    var front = [State()]
    var depth = 0
    while !front.isEmpty {
      var next: [State] = []
      for state in front {
        if !state.isSafe { return (seen.count, depth) }
        for successor in successors(of: state) where seen.insert(successor).inserted {
          next.append(successor)
        }
      }
      front = next
      depth += 1
    }
    return (seen.count, nil)
  }

  private func successors(of state: State) -> [State] {
    var result: [State] = []
    for index in 0..<2 {
      stepPush(index, state, &result)
      stepCollection(index, state, &result)
    }
    if state.manifests[0] != 0 { result.append(with(state) { $0.manifests[0] = 0 }) }
    // Once, while nobody pushes: a copy of a bucket that is written to is none.
    if !state.wasCopied, state.pushes.allSatisfy({ $0.stage == .start || $0.stage == .ended }) {
      result.append(with(state) { ($0.isCopied, $0.wasCopied) = (true, true) })
    }
    // Adopting puts the manifests again whose packs are there.
    if state.isCopied { result.append(with(state) { $0.isCopied = false }) }
    return result
  }

  private func with(_ state: State, _ change: (inout State) -> Void) -> State {
    var copy = state
    change(&copy)
    return copy
  }

  private func stepPush(_ index: Int, _ state: State, _ result: inout [State]) {
    let push = state.pushes[index]
    func go(_ change: (inout State) -> Void) { result.append(with(state, change)) }
    // Nobody pushes to a copy before it is adopted.
    guard !state.isCopied || push.stage == .ended else { return }
    switch push.stage {
    case .start:
      if !keeps(.sessionComesFirst), !push.hasView {
        go { ($0.pushes[index].view, $0.pushes[index].hasView) = ($0.condemned, true) }
      } else {
        go { $0.pushes[index].stage = .begun }
      }
    case .begun:
      go {
        if keeps(.sessionComesFirst) { $0.pushes[index].view = $0.condemned }
        if !keeps(.condemnedIsNotUsed) { $0.pushes[index].view = 0 }
        $0.pushes[index].stage = .knowing
      }
    case .knowing:
      let own = UInt8(2) << UInt8(index)
      go {
        ($0.pushes[index].needs, $0.pushes[index].stage) = (own, .uploaded)
        $0.packs |= own
      }
      if push.view & 1 == 0 {
        // By what it knows, it finds the old pack, which may be gone.
        go {
          ($0.pushes[index].needs, $0.pushes[index].stage) = (own | 1, .uploaded)
          $0.packs |= own
        }
      }
    case .uploaded:
      if push.isLate, keeps(.lateIsVoid) {
        go { $0.pushes[index] = Push(stage: .ended, isLate: true) }
      } else {
        go {
          $0.pushes[index].stage = .committed
          $0.manifests[index + 1] = push.needs
        }
      }
    case .committed: go { $0.pushes[index] = Push(stage: .ended, isLate: true) }
    case .ended: break
    }
    guard push.stage == .begun || push.stage == .knowing || push.stage == .uploaded else { return }
    if push.isLate {
      go { $0.pushes[index] = Push(stage: .ended, isLate: true) }
      if !keeps(.lateRenewalEnds) { go { $0.pushes[index].isLate = false } }
    } else {
      go { $0.pushes[index].isLate = true }
    }
  }

  private func stepCollection(_ index: Int, _ state: State, _ result: inout [State]) {
    let collection = state.collections[index]
    // By the times of a copy no manifest counts.
    let needed = state.isCopied ? 0 : state.needed
    let refuses = state.isCopied && keeps(.copiesAreRefused)
    func go(_ change: (inout State) -> Void) { result.append(with(state, change)) }
    switch collection.work {
    case .idle:
      let condemned = state.packs & ~needed
      guard condemned != 0, !refuses else { return }
      go { $0.collections[index] = Collection(work: .marked, condemned: condemned) }
    case .marked:
      go {
        $0.collections[index].work = .condemned
        $0.condemned |= collection.condemned
      }
    case .condemned:
      var awaited: UInt8 = 0
      if keeps(.collectionsWait) {
        for (number, push) in state.pushes.enumerated() where push.isLive {
          awaited |= 1 << UInt8(number)
        }
      }
      go { ($0.collections[index].work, $0.collections[index].awaited) = (.waiting, awaited) }
    case .waiting:
      let isWaiting = state.pushes.enumerated().contains { number, push in
        collection.awaited & 1 << UInt8(number) != 0 && push.isLive
      }
      guard !isWaiting else { return }
      if keeps(.secondMark), refuses {
        go { $0.collections[index] = Collection(work: .done) }
        return
      }
      let doomed = keeps(.secondMark) ? collection.condemned & ~needed : collection.condemned
      go { ($0.collections[index].work, $0.collections[index].doomed) = (.ready, doomed) }
    case .ready:
      go {
        $0.packs &= ~collection.doomed
        $0.collections[index] = Collection(work: .done)
      }
    case .done: break
    }
  }
}
