/// How a printable character stands in memory.
protocol TextUnits {
  /// Bytes of a character.
  static var stride: Int { get }
  /// Whether `unit` points at a printable ASCII character or a tab.
  static func isPrintable(_ unit: UnsafePointer<UInt8>) -> Bool
}

enum ASCIIUnits: TextUnits {
  static var stride: Int { 1 }
  @inline(__always)
  static func isPrintable(_ unit: UnsafePointer<UInt8>) -> Bool {
    unit.pointee &- 0x20 < 0x5f || unit.pointee == 0x09
  }
}

/// As Windows keeps most of its texts, at even addresses.
enum UTF16Units: TextUnits {
  static var stride: Int { 2 }
  @inline(__always)
  static func isPrintable(_ unit: UnsafePointer<UInt8>) -> Bool {
    unit[1] == 0 && ASCIIUnits.isPrintable(unit)
  }
}

/// A text in RAM.
struct FoundText {
  var gpa: UInt64
  var length: Int
  /// Where it stands in the piece that was read last; `nil` when it began in one before.
  fileprivate var units: UnsafePointer<UInt8>?
  fileprivate var kept: [UInt8] = []

  /// The characters. Valid until the next piece is read.
  func characters(stride: Int) -> [UInt8] {
    guard let units else { return kept }
    return (0..<length).map { units[$0 * stride] }
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
/// A text that long has a character at every multiple of its length: most bytes are never read.
struct TextFinder<Units: TextUnits> {
  private let minimumLength: Int
  /// A text that may go on in the next piece: less than the minimum, or more.
  private var open: [UInt8] = []
  private var openGPA: UInt64 = 0
  /// Where the piece before ended.
  private var end: UInt64 = 0

  init(minimumLength: Int) { self.minimumLength = minimumLength }

  mutating func read(_ piece: RAMStream.Piece, into found: inout [FoundText]) {
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

  mutating func finish(into found: inout [FoundText]) {
    if open.count >= minimumLength {
      found.append(FoundText(gpa: openGPA, length: open.count, kept: open))
    }
    open = []
  }

  private mutating func readPart(
    _ bytes: UnsafeRawBufferPointer,
    at gpa: UInt64,
    into found: inout [FoundText]
  ) {
    let isCut = gpa % TextCut.byteCount == 0 && open.count > TextCut.minimumCharacterCount
    if gpa != end || isCut { finish(into: &found) }
    end = gpa + UInt64(bytes.count)
    let units = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
    let count = bytes.count / Units.stride
    @inline(__always) func isPrintable(_ index: Int) -> Bool {
      Units.isPrintable(units + index * Units.stride)
    }
    @inline(__always) func characters(_ range: Range<Int>) -> [UInt8] {
      range.map { units[$0 * Units.stride] }
    }
    var index = 0
    if !open.isEmpty {
      while index < count, isPrintable(index) { index += 1 }
      open += characters(0..<index)
      if index == count { return }
      finish(into: &found)
    }
    // No text begins before `index` that has not been found.
    while index + minimumLength <= count {
      let probe = index + minimumLength - 1
      guard isPrintable(probe) else {
        index = probe + 1
        continue
      }
      var start = probe
      while start > index, isPrintable(start - 1) { start -= 1 }
      guard start == index else {
        index = start
        continue
      }
      var stop = probe + 1
      while stop < count, isPrintable(stop) { stop += 1 }
      if stop == count {
        keepOpen(characters(start..<stop), at: gpa + UInt64(start * Units.stride))
        return
      }
      found.append(
        FoundText(
          gpa: gpa + UInt64(start * Units.stride),
          length: stop - start,
          units: units + start * Units.stride
        )
      )
      index = stop + 1
    }
    var start = count
    while start > index, isPrintable(start - 1) { start -= 1 }
    if start < count {
      keepOpen(characters(start..<count), at: gpa + UInt64(start * Units.stride))
    }
  }

  private mutating func keepOpen(_ characters: [UInt8], at gpa: UInt64) {
    open = characters
    openGPA = gpa
  }
}
