extension RemoteModel {
  func stepCollection(_ index: Int, _ state: State, _ go: (State) -> Void) {
    let collection = state.collections[index]
    func change(_ change: (inout Collection, inout State) -> Void) {
      var (collection, state) = (collection, state)
      change(&collection, &state)
      state.collections[index] = collection
      go(state)
    }
    // By the times of a copy no manifest counts.
    let needed = state.isCopied ? 0 : state.needed
    // It may be killed, or give up, at any time; then another one comes.
    if collection.work != .idle { change { collection, _ in collection = Collection() } }
    switch collection.work {
    case .idle:
      change { collection, state in
        collection = Collection(work: .listed, lists: state.listsThere)
      }
    case .listed:
      if state.isCopied, keeps(.copiesAreRefused) { return }
      let unneeded = state.packs & ~needed
      // What is there it has read by now. What is gone it may have read before, or missed.
      let gone = collection.lists & ~state.listsThere
      var missed = gone
      while true {
        let lists = collection.lists & ~missed
        change { collection, state in
          let isNew = unneeded & ~state.packs(on: lists) != 0
          let work: Collection.Work = isNew ? .marked : unneeded != 0 ? .waiting : .merging
          collection = Collection(work: work, lists: lists, packs: unneeded)
        }
        if missed == 0 { break }
        missed = (missed - 1) & gone
      }
    case .marked:
      guard state.putListCount < setting.listLimit else { return }
      change { collection, state in
        let new = state.putList(collection.packs & ~state.packs(on: collection.lists))
        collection.work = .waiting
        collection.lists |= 1 << Bits(new)
      }
    case .waiting:
      if state.isCopied, keeps(.copiesAreRefused), keeps(.copiesAreRefusedAgain) { return }
      let ready = readyPacks(collection, state)
      change { collection, _ in
        collection.packs = keeps(.secondMark) ? ready & ~needed : ready
        collection.work = collection.packs == 0 ? .merging : .ready
      }
    case .ready:
      change { collection, state in
        state.packs &= ~collection.packs
        (collection.work, collection.packs) = (.merging, 0)
      }
    case .merging: merge(collection, state, change)
    }
  }

  /// The packs for whose pushes nobody has to wait any more. Once that is so it stays so: no push comes back.
  private func readyPacks(_ collection: Collection, _ state: State) -> Bits {
    guard keeps(.collectionsWait) else { return collection.packs }
    var ready: Bits = 0
    for pack in 0..<Bits(State.packCount) where collection.packs & 1 << pack != 0 {
      let on = collection.lists & state.lists { $0.packs & 1 << pack != 0 }
      let isTakenUp = collection.lists >> Bits(on.trailingZeroBitCount) > 1
      let earliest = state.lists[on.trailingZeroBitCount]
      if !state.hasPush(earliest.pushesBefore, where: \.isLive)
        || isTakenUp && !keeps(.takenUpIsAwaited)
      {
        ready |= 1 << pack
      }
    }
    return ready
  }

  /// What `CondemnedListMerge` may do next.
  private func merge(
    _ collection: Collection,
    _ state: State,
    _ change: ((inout Collection, inout State) -> Void) -> Void
  ) {
    func delete(_ list: Int) {
      if state.lists[list].isThere { change { _, state in state.lists[list].isThere = false } }
    }
    func packs(_ list: Int) -> Bits {
      state.lists[list].packs & (keeps(.goneStaysCondemned) ? .max : state.packs)
    }
    let known = (0..<State.listCount).filter { collection.lists & 1 << Bits($0) != 0 }
    // The longest first, and of equal ones the oldest.
    let ordered = known.sorted {
      (-packs($0).nonzeroBitCount, $0) < (-packs($1).nonzeroBitCount, $1)
    }
    var kept: [Int] = []
    for list in ordered {
      let candidates = keeps(.oneOfEqualStays) ? kept : ordered.filter { $0 != list }
      let containing = candidates.filter { packs($0) & packs(list) == packs(list) }
      if containing.contains(where: { mayBeOld(state.lists[$0], state) }) {
        delete(list)
      } else if containing.isEmpty {
        kept.append(list)
      }
    }
    if !keeps(.onlyContainedGo) {
      for list in 0..<State.listCount where !known.contains(list) { delete(list) }
    }
    guard kept.count > 1, state.putListCount < setting.listLimit else { return }
    if !keeps(.mergedComesFirst) {
      for list in kept { delete(list) }
    }
    change { collection, state in
      let merged = state.putList(kept.reduce(0) { $0 | packs($1) })
      if !keeps(.mergedHasItsOwnTime) {
        state.lists[merged].pushesBefore = state.lists[kept.min()!].pushesBefore
      }
      collection = Collection()
    }
  }

  /// Whether a list may be older than a lease and a margin. Then each push that began before it has put its session again,
  /// or is late.
  private func mayBeOld(_ list: List, _ state: State) -> Bool {
    guard keeps(.mergedIsOld), keeps(.readingIsNotRenewed) else { return true }
    return !state.hasPush(list.pushesBefore) { $0.isLive && $0.isReading }
  }
}
