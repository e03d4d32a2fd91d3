import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `ram_strings(snapshot, min_length [, encoding])`: a row for each printable text.
  static var ramStrings: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "ram_strings",
        ["snapshot", "min_length"],
        optional: ["encoding"],
        kind: .table,
        returns: "rows",
        "a row for each printable text in bare RAM: 'ascii' or 'utf-16le'"
      ),
      columns: ["gpa INTEGER", "pfn INTEGER", "length INTEGER", "text TEXT"],
      keyColumn: 0,
      typicalRowCount: 1 << 20
    ) { connection, query in
      let minimumLength = Int(try query.arguments[1]!.integer(in: 1...4096))
      var encoding = "ascii"
      if let argument = query.arguments[2], !argument.isNull {
        encoding = try argument.text().lowercased()
      }
      guard encoding == "ascii" || encoding == "utf-16le" else {
        throw SQLError.misuse("ram_strings: encoding must be 'ascii' or 'utf-16le'")
      }
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      // A text that is cut is cut at the same places wherever the reading begins.
      let reach = 2 * TextCut.byteCount
      guard let pfns = query.range.pfns(before: reach, after: reach) else { return EmptyCursor() }
      let stream = try RAMStream(
        connection,
        snapshot,
        pfns: (pfns.lowerBound & ~(TextCut.pageCount - 1))...pfns.upperBound
      )
      return encoding == "ascii"
        ? RAMStringsCursor<ASCIIUnits>(stream, minimumLength: minimumLength)
        : RAMStringsCursor<UTF16Units>(stream, minimumLength: minimumLength)
    }
  }
}

private final class RAMStringsCursor<Units: TextUnits>: TableCursor {
  private let stream: RAMStream
  private let finder: TextFinder<Units>
  private var found = FoundTexts()
  private var index = 0
  private var isAtEnd = false

  init(_ stream: RAMStream, minimumLength: Int) {
    self.stream = stream
    finder = TextFinder(minimumLength: minimumLength)
  }

  func next() throws -> Bool {
    index += 1
    while index >= found.texts.count {
      found.removeAll()
      index = 0
      if isAtEnd { return false }
      if let piece = try stream.next() {
        finder.read(piece, into: &found)
      } else {
        isAtEnd = true
        finder.finish(into: &found)
      }
    }
    return true
  }

  func column(_ column: Int) -> SQLValue {
    let text = found.texts[index]
    switch column {
    case 0: return .integer(Int64(text.gpa))
    case 1: return .integer(Int64(text.gpa >> UInt64(Page.shift)))
    case 2: return .integer(Int64(text.length))
    default:
      let characters = found.characters(of: text, stride: Units.stride)
      return .text(String(decoding: characters, as: UTF8.self))
    }
  }
}
