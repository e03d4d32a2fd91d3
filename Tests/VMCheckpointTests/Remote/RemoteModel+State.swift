extension RemoteModel {
  /// Of sets of packs, lists or pushes, bit *n* is number *n*.
  typealias Bits = UInt8

  struct Push {
    enum Stage: UInt8 {
      case start
      /// Has read the lists before its session is there, which a rule forbids.
      case early
      case begun, reading, knowing, uploaded, committed, ended
    }

    var stage = Stage.start
    /// The lists that it has listed, and not read.
    var listed: Bits = 0
    /// A list that it has read has the old pack.
    var knowsCondemned = false
    /// Besides its own.
    var needsOld = false
    /// Its deadline is over, and so is a collection's patience with it.
    var isLate = false

    var isOver: Bool { stage == .committed || stage == .ended }
    var hasBegun: Bool { stage != .start && stage != .early && !isOver }
    var isLive: Bool { hasBegun && !isLate }
    /// It has not put its session for the second time.
    var isReading: Bool { stage == .begun || stage == .reading }
  }

  struct Collection {
    enum Work: UInt8 { case idle, listed, marked, waiting, ready, merging }

    var work = Work.idle
    /// The lists of condemned packs that it knows.
    var lists: Bits = 0
    /// Those that it found unneeded; when it is ready, those that it deletes.
    var packs: Bits = 0
  }

  /// A list of condemned packs. Those with higher numbers were put later.
  struct List {
    var packs: Bits = 0
    /// The pushes that had begun when it was put.
    var pushesBefore: Bits = 0
    var isThere = false
  }

  struct State {
    static let pushCount = 2
    static let packCount = 4
    static let listCount = 3

    var pushes: [2 of Push] = [Push(), Push()]
    var collections: [2 of Collection] = [Collection(), Collection()]
    var lists: [3 of List] = [List(), List(), List()]
    /// Of lists that were ever put.
    var putListCount = 0
    /// The old one, those of the pushes, and one that is left over.
    var packs: Bits
    var oldSnapshotIsThere = true
    /// The objects have new times, by which no manifest counts.
    var isCopied = false
    var wasCopied = false

    init(packs: Bits) { self.packs = packs }

    static func ownPack(ofPush index: Int) -> Bits { 2 << Bits(index) }

    /// What the manifests need that were put in time.
    var needed: Bits {
      var needed: Bits = oldSnapshotIsThere ? 1 : 0
      for index in 0..<Self.pushCount where pushes[index].stage == .committed {
        needed |= Self.ownPack(ofPush: index) | (pushes[index].needsOld ? 1 : 0)
      }
      return needed
    }

    var isSafe: Bool { needed & ~packs == 0 }

    func hasPush(_ among: Bits = .max, where isWanted: (Push) -> Bool) -> Bool {
      for index in 0..<Self.pushCount
      where among & 1 << Bits(index) != 0 && isWanted(pushes[index]) { return true }
      return false
    }

    func lists(where isWanted: (List) -> Bool) -> Bits {
      var found: Bits = 0
      for index in 0..<Self.listCount where isWanted(lists[index]) { found |= 1 << Bits(index) }
      return found
    }

    var listsThere: Bits { lists(where: \.isThere) }

    func packs(on wanted: Bits) -> Bits {
      var packs: Bits = 0
      for index in 0..<Self.listCount where wanted & 1 << Bits(index) != 0 {
        packs |= lists[index].packs
      }
      return packs
    }

    /// - Returns: Its number.
    mutating func putList(_ packs: Bits) -> Int {
      var list = List(packs: packs, isThere: true)
      for index in 0..<Self.pushCount where pushes[index].hasBegun {
        list.pushesBefore |= 1 << Bits(index)
      }
      lists[putListCount] = list
      putListCount += 1
      return putListCount - 1
    }

    /// Makes states equal that differ only in what nothing depends on any more.
    ///
    /// - Parameter lateIsOver: Whether a late push can do nothing but bring its pack.
    mutating func forgetPast(lateIsOver: Bool) {
      // Of what it has listed, a push heeds what has the old pack, and misses what is gone.
      let heeded = lists { $0.isThere && $0.packs & 1 != 0 }
      var over: Bits = 0
      for index in 0..<Self.pushCount {
        pushes[index].listed &= heeded
        if lateIsOver, pushes[index].isLate {
          let mayUpload = pushes[index].stage != .uploaded
          pushes[index] = mayUpload ? Push(stage: .knowing, isLate: true) : Push(stage: .ended)
          over |= 1 << Bits(index)
        }
        if pushes[index].isOver { over |= 1 << Bits(index) }
      }
      let known = collections[0].lists | collections[1].lists
      for index in 0..<Self.listCount {
        lists[index].pushesBefore &= ~over
        if !lists[index].isThere, known & 1 << Bits(index) == 0 { lists[index] = List() }
      }
    }

    /// The whole state in a few bits, for speed.
    struct Key: Hashable {
      var high: UInt64
      var low: UInt64
    }

    /// The same for states that differ only in which collector is the first.
    var key: Key {
      var high = UInt64(packs) << 2 | UInt64(putListCount)
      for flag in [oldSnapshotIsThere, isCopied, wasCopied] { high = high << 1 | (flag ? 1 : 0) }
      for index in 0..<Self.listCount {
        let list = lists[index]
        high = high << 7 | UInt64(list.packs) << 3 | UInt64(list.pushesBefore) << 1
        high |= list.isThere ? 1 : 0
      }
      var low: UInt64 = 0
      for index in 0..<Self.pushCount {
        let push = pushes[index]
        low = low << 9 | UInt64(push.stage.rawValue) << 6 | UInt64(push.listed) << 3
        low |= (push.knowsCondemned ? 4 : 0) | (push.needsOld ? 2 : 0) | (push.isLate ? 1 : 0)
      }
      let (first, second) = (Self.key(collections[0]), Self.key(collections[1]))
      return Key(high: high, low: low << 20 | min(first, second) << 10 | max(first, second))
    }

    private static func key(_ collection: Collection) -> UInt64 {
      UInt64(collection.work.rawValue) << 7 | UInt64(collection.lists) << 4
        | UInt64(collection.packs)
    }
  }
}
