import CSQLiteExtension
import VMCheckpointCore

/// How memory holds a printable character.
protocol TextUnits {
  /// Bytes of a character.
  static var stride: Int { get }
  /// Finds which of `count` characters are printable ASCII or tabs, as bits.
  static func classify(
    _ units: UnsafeRawPointer,
    _ count: Int,
    _ bits: UnsafeMutablePointer<UInt64>
  )
}

enum ASCIIUnits: TextUnits {
  static var stride: Int { 1 }
  static func classify(
    _ units: UnsafeRawPointer,
    _ count: Int,
    _ bits: UnsafeMutablePointer<UInt64>
  ) {
    vmx_printable_bytes(units, count, bits)
  }
}

/// As Windows keeps most of its texts, at even addresses.
enum UTF16Units: TextUnits {
  static var stride: Int { 2 }
  static func classify(
    _ units: UnsafeRawPointer,
    _ count: Int,
    _ bits: UnsafeMutablePointer<UInt64>
  ) {
    vmx_printable_units(units, count, bits)
  }
}

/// A text in RAM.
struct FoundText {
  var gpa: UInt64
  var length: Int
  /// Where it is in the piece that was read last; `nil` when it began in an earlier piece, and
  /// ``FoundTexts/carried`` has it.
  fileprivate var units: UnsafePointer<UInt8>?
  fileprivate var carriedIndex = 0
}

/// The texts that a piece of RAM has, in order.
struct FoundTexts {
  private(set) var texts: [FoundText] = []
  fileprivate var carried: [[UInt8]] = []

  mutating func removeAll() {
    texts.removeAll(keepingCapacity: true)
    carried.removeAll(keepingCapacity: true)
  }

  /// The characters of a text; until another piece is read.
  func characters(of text: FoundText, stride: Int) -> [UInt8] {
    guard let units = text.units else { return carried[text.carriedIndex] }
    return (0..<text.length).map { units[$0 * stride] }
  }

  fileprivate mutating func append(_ text: FoundText) { texts.append(text) }

  fileprivate mutating func append(carried characters: [UInt8], at gpa: UInt64) {
    texts.append(FoundText(gpa: gpa, length: characters.count, carriedIndex: carried.count))
    carried.append(characters)
  }
}

/// Where texts without end are cut: at multiples of 64 KiB, when they have more than 4096
/// characters by then. So the cuts do not depend on where the reading began.
enum TextCut {
  static let byteCount: UInt64 = 64 << 10
  static let pageCount = byteCount >> UInt64(Page.shift)
  static let minimumCharacterCount = 4096
}

/// Finds texts of at least so many characters, also across pieces.
///
/// 64 characters at a time become the bits of a word, in which runs that are too short are found
/// without a look at each.
final class TextFinder<Units: TextUnits> {
  private let minimumLength: Int
  /// A text that may go on in the next piece: less than the minimum, or more.
  private var open: [UInt8] = []
  private var openGPA: UInt64 = 0
  /// Where the piece before ended.
  private var end: UInt64 = 0
  /// The bits of a part of a piece, followed by a word of zeros.
  private let bits = UnsafeMutablePointer<UInt64>.allocate(
    capacity: Int(TextCut.byteCount) / 64 + 1
  )

  init(minimumLength: Int) { self.minimumLength = minimumLength }

  deinit { bits.deallocate() }

  func read(_ piece: RAMStream.Piece, into found: inout FoundTexts) {
    var gpa = piece.gpa
    var bytes = piece.bytes[...]
    while !bytes.isEmpty {
      let room = Int(TextCut.byteCount - gpa % TextCut.byteCount)
      let part = UnsafeRawBufferPointer(rebasing: bytes.prefix(room))
      readPart(part, at: gpa, into: &found)
      gpa += UInt64(part.count)
      bytes = bytes.dropFirst(part.count)
    }
  }

  func finish(into found: inout FoundTexts) {
    if open.count >= minimumLength { found.append(carried: open, at: openGPA) }
    open = []
  }

  private func readPart(
    _ bytes: UnsafeRawBufferPointer,
    at gpa: UInt64,
    into found: inout FoundTexts
  ) {
    let isCut = gpa % TextCut.byteCount == 0 && open.count > TextCut.minimumCharacterCount
    if gpa != end || isCut { finish(into: &found) }
    end = gpa + UInt64(bytes.count)
    let stride = Units.stride
    let units = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
    let count = bytes.count / stride
    let wordCount = (count + 63) / 64
    Units.classify(units, count, bits)
    bits[wordCount] = 0

    var index = 0
    if !open.isEmpty {
      index = runEnd(from: 0, count: count)
      open += (0..<index).map { units[$0 * stride] }
      if index == count { return }
      finish(into: &found)
    }
    // A run that reaches the end may go on in the next piece: it is not a text yet.
    let tail = tailStart(count: count, wordCount: wordCount)
    var word = index / 64
    while word < wordCount {
      // No text begins before `index` that has not been found.
      var starts = runs(in: word) & (.max << UInt64(max(0, index - word * 64)))
      while starts != 0 {
        let start = word * 64 + starts.trailingZeroBitCount
        if start >= tail { break }
        let stop = runEnd(from: start + 1, count: count)
        if stop - start >= minimumLength {
          found.append(
            FoundText(
              gpa: gpa + UInt64(start * stride),
              length: stop - start,
              units: units + start * stride
            )
          )
        }
        index = stop + 1
        let next = index - word * 64
        starts = next < 64 ? starts & (.max << UInt64(next)) : 0
      }
      word = max(word + 1, index / 64)
    }
    if tail < count {
      open = (tail..<count).map { units[$0 * stride] }
      openGPA = gpa + UInt64(tail * stride)
    }
  }

  /// The characters of a word with which a run of the minimum length, or of 64, begins or goes on.
  @inline(__always)
  private func runs(in word: Int) -> UInt64 {
    var (low, high) = (bits[word], bits[word + 1])
    // After a step, a bit stands for a run of `length` from there on.
    var length = 1
    let wanted = min(minimumLength, 64)
    while low != 0, length < wanted {
      let step = UInt64(min(length, wanted - length))
      low &= low >> step | high << (64 - step)
      high &= high >> step
      length += Int(step)
    }
    return low
  }

  /// The first character from `index` on that is not printable, or `count`.
  @inline(__always)
  private func runEnd(from index: Int, count: Int) -> Int {
    var word = index / 64
    var others = ~bits[word] & (.max << UInt64(index % 64))
    while others == 0 {
      word += 1
      others = ~bits[word]
    }
    return min(count, word * 64 + others.trailingZeroBitCount)
  }

  /// Where the run that reaches the end begins; `count` when none does.
  private func tailStart(count: Int, wordCount: Int) -> Int {
    var start = count
    while start > 0, bits[(start - 1) / 64] >> UInt64((start - 1) % 64) & 1 == 1 {
      let word = (start - 1) / 64
      // A word of which all is printable is passed over at once.
      start = start % 64 == 0 && bits[word] == .max ? word * 64 : start - 1
    }
    return start
  }
}
