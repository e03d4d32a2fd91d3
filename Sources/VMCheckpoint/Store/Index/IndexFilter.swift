import GRDB

/// A Bloom filter over the prefixes of the entries of a run of the index. It says of most pages that
/// the run does not have them, without reading one of its blocks.
///
/// A filter is lines of 512 bits. A prefix belongs to one line, so that asking costs one cache miss,
/// and has five bits there. With 40 prefixes for each line, one absent prefix in 200 or so finds all
/// of its bits set, and costs a block read. A prefix that is there always does.
///
/// Lines divide the prefixes' range evenly, which SHA-256 fills evenly. So a run that is written in the
/// order of its entries fills its lines one after another, and asking needs no search. A guest that
/// grinds prefixes fills its lines sooner, and slows its own saves.
enum IndexFilter {
  static let lineByteCount = 64
  static let wordsPerLine = lineByteCount / 8
  static let prefixesPerLine = 40

  /// Lines in a row of `page_index_filter`: with its header they fill one database page.
  static let linesPerSection = 62

  /// The lines of a filter for `count` prefixes.
  static func lineCount(forPrefixes count: UInt64) -> UInt64 {
    (count + UInt64(prefixesPerLine) - 1) / UInt64(prefixesPerLine)
  }

  static func sectionCount(ofLines count: UInt64) -> Int {
    (Int(count) + linesPerSection - 1) / linesPerSection
  }

  /// The line that a prefix belongs to.
  @inline(__always)
  static func line(of prefix: UInt64, lineCount: UInt64) -> Int {
    Int(prefix.multipliedFullWidth(by: lineCount).high)
  }

  /// Sets the bits of a prefix in its line. Bit *n* is in the line's byte *n* / 8, the lowest first.
  static func set(_ prefix: UInt64, in line: UnsafeMutablePointer<UInt64>) {
    var mixed = mix(prefix)
    for _ in 0..<bitCount {
      line[word(mixed)] |= mask(mixed).littleEndian
      mixed &<<= 9
    }
  }

  /// Whether all bits of a prefix are set. Looks at all of them, always: it is the branches of looking
  /// at one after another that would take time.
  @inline(__always)
  static func has(_ prefix: UInt64, in line: UnsafePointer<UInt64>) -> Bool {
    var mixed = mix(prefix)
    var missing: UInt64 = 0
    for _ in 0..<bitCount {
      missing |= ~line[word(mixed)] & mask(mixed).littleEndian
      mixed &<<= 9
    }
    return missing == 0
  }

  private static var bitCount: Int { 5 }

  /// The prefixes of one line have their first bits in common; the product's first 45 bits, which
  /// name the five, depend on the others.
  @inline(__always)
  private static func mix(_ prefix: UInt64) -> UInt64 {
    (prefix ^ prefix &>> 29) &* 0xBF58_476D_1CE4_E5B9
  }

  @inline(__always)
  private static func word(_ mixed: UInt64) -> Int { Int(truncatingIfNeeded: mixed &>> 61) }

  @inline(__always)
  private static func mask(_ mixed: UInt64) -> UInt64 { 1 &<< (mixed &>> 55 & 63) }
}

/// Writes the filter of a run, prefix by prefix in ascending order, in the caller's transactions.
struct IndexFilterWriter {
  let lineCount: UInt64
  private let insert: HotStatement
  private let firstID: Int64
  /// The lines of the section that is being filled.
  private var words = [UInt64](
    repeating: 0,
    count: IndexFilter.linesPerSection * IndexFilter.wordsPerLine
  )
  private var section = 0

  /// - Parameters:
  ///   - firstID: The id of the first section's row.
  ///   - prefixCount: At least as many as will come.
  init(_ database: Database, firstID: Int64, prefixCount: UInt64) throws {
    insert = try HotStatement(database, "INSERT INTO page_index_filter (id, bits) VALUES (?, ?)")
    self.firstID = firstID
    lineCount = IndexFilter.lineCount(forPrefixes: prefixCount)
  }

  mutating func append(_ prefix: UInt64) throws {
    let line = IndexFilter.line(of: prefix, lineCount: lineCount)
    while line >= (section + 1) * IndexFilter.linesPerSection { try writeSection() }
    let start = (line - section * IndexFilter.linesPerSection) * IndexFilter.wordsPerLine
    words.withUnsafeMutableBufferPointer {
      IndexFilter.set(prefix, in: $0.baseAddress! + start)
    }
  }

  /// Writes what is left.
  mutating func finish() throws {
    while section < IndexFilter.sectionCount(ofLines: lineCount) { try writeSection() }
  }

  private mutating func writeSection() throws {
    let firstLine = section * IndexFilter.linesPerSection
    let count = min(IndexFilter.linesPerSection, Int(lineCount) - firstLine)
    insert.bind(firstID + Int64(section), at: 1)
    try words.withUnsafeMutableBytes { bytes in
      insert.bind(
        UnsafeRawBufferPointer(rebasing: bytes[..<(count * IndexFilter.lineByteCount)]),
        at: 2
      )
      try insert.run()
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }
    section += 1
  }
}
