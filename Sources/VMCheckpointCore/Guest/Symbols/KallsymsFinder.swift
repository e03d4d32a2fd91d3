/// Finds a kernel's symbols around its token table, whatever the kernel's version: by what the parts look like,
/// each checked against the others.
///
///     up to 6.3     offsets, relative_base, num_syms, names, markers, [seqs], token_table, token_index
///     from 6.4 on   num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs
///
/// All of it lies in the kernel's read-only data, which is contiguous in guest-physical memory: no page tables are
/// needed.
struct KallsymsFinder {
  private let ram: any GuestRAM

  init(_ ram: any GuestRAM) { self.ram = ram }

  private static let groupCount = 256
  /// A name's length in `names`: at least one token and its length, at most this many bytes for 256 names.
  private static let markerSteps = 512...32768
  /// 3 bytes for each symbol, which 6.2 and 6.3 have between markers and tokens.
  private static let maximumSequenceByteCount = 3 * Kallsyms.maximumCount + 8
  private static let maximumNamesByteCount = 48 << 20
  /// Fewer symbols no kernel has.
  private static let minimumMarkerCount = 4

  /// The symbols whose token table is `tokens`; `nil` where they are not whole.
  func symbols(_ tokens: TokenTable) throws -> Kallsyms? {
    guard let (markersGPA, markers) = try markers(before: tokens.gpa) else { return nil }
    guard let (namesGPA, names, count) = try names(before: markersGPA, markers, tokens) else {
      return nil
    }
    return try addresses(before: namesGPA, tokens, names, count)
      ?? addresses(after: tokens, namesGPA, names, count)
  }

  // MARK: Markers

  private func markers(before gpa: UInt64) throws -> (gpa: UInt64, [Int])? {
    // Up to 7 bytes align the table; a marker after the first is never 0.
    for padding in [UInt64(0), 4] {
      guard gpa > padding + 4, try padding == 0 || ram.number(gpa - 4, as: UInt32.self) == 0
      else { continue }
      if let found = try markers(endingAt: gpa - padding) { return found }
    }
    return try markersBeforeSequences(gpa)
  }

  /// The run of rising values from 0 on that ends at `end`.
  private func markers(endingAt end: UInt64) throws -> (gpa: UInt64, [Int])? {
    var reversed: [Int] = []
    var gpa = end
    while gpa >= 4, reversed.count <= Kallsyms.maximumCount / Self.groupCount + 1 {
      gpa -= 4
      guard let value = try ram.number(gpa, as: UInt32.self) else { return nil }
      if let last = reversed.last {
        guard Self.markerSteps.contains(last - Int(value)) else { return nil }
      }
      reversed.append(Int(value))
      if value == 0 {
        return reversed.count >= Self.minimumMarkerCount ? (gpa, reversed.reversed()) : nil
      }
    }
    return nil
  }

  /// The last run of rising values from 0 on before `gpa`, wherever it ends.
  private func markersBeforeSequences(_ gpa: UInt64) throws -> (gpa: UInt64, [Int])? {
    let reach = min(UInt64(Self.maximumSequenceByteCount), gpa) & ~3
    var place = gpa & ~3
    var next: UInt32 = 0
    var later: UInt32 = 0
    while place > gpa - reach, place >= 4 {
      place -= 4
      guard let value = try ram.number(place, as: UInt32.self) else { return nil }
      if value == 0, Self.markerSteps.contains(Int(next)),
        Self.markerSteps.contains(Int(later) - Int(next))
      {
        var values = [0]
        var end = place + 4
        while let value = try ram.number(end, as: UInt32.self),
          Self.markerSteps.contains(Int(value) - values[values.count - 1])
        {
          values.append(Int(value))
          end += 4
        }
        if values.count >= Self.minimumMarkerCount { return (place, values) }
      }
      (next, later) = (value, next)
    }
    return nil
  }

  // MARK: Names

  /// The names' place and bytes, and how many there are.
  private func names(
    before markersGPA: UInt64,
    _ markers: [Int],
    _ tokens: TokenTable
  ) throws -> (gpa: UInt64, [UInt8], count: Int)? {
    let last = markers[markers.count - 1]
    // The last group has up to 256 names behind its marker.
    let longest = Self.groupCount * 130 + 16
    let reach = last + longest
    guard reach <= Self.maximumNamesByteCount, UInt64(reach) <= markersGPA,
      let bytes = try ram.bytes(markersGPA - UInt64(reach), count: reach)
    else { return nil }
    let counts = ((markers.count - 1) * Self.groupCount + 1)...(markers.count * Self.groupCount)
    func word(_ offset: Int) -> Int {
      bytes.withUnsafeBytes {
        Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
      }
    }
    let start = reach - last
    let first = start - Int((markersGPA - UInt64(last)) & 3)
    for place in stride(from: first, to: 8, by: -4) {
      // From 7.0 on the names follow the count at once; before, they are aligned to 8.
      let count: Int
      if counts.contains(word(place - 4)) {
        count = word(place - 4)
      } else if word(place - 4) == 0, counts.contains(word(place - 8)) {
        count = word(place - 8)
      } else {
        continue
      }
      if let end = Self.end(bytes, place, markers, count), end <= reach, reach - end < 8 {
        return (markersGPA - UInt64(reach - place), Array(bytes[place..<end]), count)
      }
    }
    return nil
  }

  /// Where `count` names from `start` on end, if they agree with the markers.
  private static func end(_ bytes: [UInt8], _ start: Int, _ markers: [Int], _ count: Int) -> Int? {
    var position = start
    for (group, marker) in markers.enumerated() {
      guard position - start == marker else { return nil }
      for _ in 0..<min(groupCount, count - group * groupCount) {
        guard let (_, next) = Kallsyms.entry(bytes, position) else { return nil }
        position = next
      }
    }
    return position
  }

  // MARK: Addresses

  private func addresses(
    after tokens: TokenTable,
    _ namesGPA: UInt64,
    _ names: [UInt8],
    _ count: Int
  ) throws -> Kallsyms? {
    let offsetsGPA = (tokens.indexGPA + UInt64(TokenTable.indexByteCount) + 3) & ~3
    let baseGPA = (offsetsGPA + UInt64(4 * count) + 7) & ~7
    guard let offsets = try ram.bytes(offsetsGPA, count: 4 * count) else { return nil }
    let base = try ram.number(baseGPA, as: UInt64.self)
    return try kallsyms(offsets, base, placesFrom: offsetsGPA, namesGPA, names, tokens)
  }

  private func addresses(
    before namesGPA: UInt64,
    _ tokens: TokenTable,
    _ names: [UInt8],
    _ count: Int
  ) throws -> Kallsyms? {
    guard namesGPA >= UInt64(4 * count + 24) else { return nil }
    let baseGPA = namesGPA - 16
    let offsetsGPA = (baseGPA - UInt64(4 * count)) & ~7
    guard let offsets = try ram.bytes(offsetsGPA, count: 4 * count) else { return nil }
    let base = try ram.number(baseGPA, as: UInt64.self)
    return try kallsyms(offsets, base, placesFrom: nil, namesGPA, names, tokens)
  }

  private func kallsyms(
    _ offsets: [UInt8],
    _ base: UInt64?,
    placesFrom place: UInt64?,
    _ namesGPA: UInt64,
    _ names: [UInt8],
    _ tokens: TokenTable
  ) throws -> Kallsyms? {
    let count = offsets.count / 4
    var values: [UInt64] = []
    var hasValueItself: [Bool] = []
    values.reserveCapacity(count)
    let addressing: Kallsyms.Addressing
    let numbers = offsets.withUnsafeBytes { bytes in
      (0..<count).map {
        Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self))
      }
    }
    if let base, base >> 47 == 0x1ffff {
      if numbers.count(where: { $0 < 0 }) > count / 2 {
        addressing = .absolutePerCPU
        for number in numbers {
          values.append(
            number < 0 ? base &- 1 &- UInt64(bitPattern: Int64(number)) : UInt64(number)
          )
          hasValueItself.append(number >= 0)
        }
      } else {
        addressing = .baseRelative
        for number in numbers { values.append(base &+ UInt64(UInt32(bitPattern: number))) }
      }
    } else if let place, numbers.count(where: { $0 == 0 }) <= count / 1000 {
      addressing = .placeRelative
      for (index, number) in numbers.enumerated() {
        values.append(place &+ UInt64(4 * index) &+ UInt64(bitPattern: Int64(number)))
      }
    } else {
      return nil
    }
    // Symbols are sorted: a thousandth may be in another order.
    var last: UInt64 = 0
    var exceptions = 0
    for (index, value) in values.enumerated()
    where hasValueItself.isEmpty || !hasValueItself[index] {
      if value < last { exceptions += 1 }
      last = value
    }
    guard exceptions <= count / 1000 else { return nil }
    if addressing == .placeRelative {
      let end = ram.layout.regions.last?.endGPA ?? 0
      guard values[0] < end, values[count - 1] < 2 * end else { return nil }
    }
    do throws(GuestFault) {
      return try Kallsyms(
        addressing: addressing,
        namesGPA: namesGPA,
        names: names,
        tokens: tokens,
        values: values,
        hasValueItself: hasValueItself
      )
    } catch {
      return nil
    }
  }
}
