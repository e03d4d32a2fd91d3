import CFuzzHost
import CSQLiteExtension
import SQLiteExtension

/// What SQLite calls for every database; C knows it by this name.
@_cdecl("vmckpt_fuzz_extension_init")
public func extensionInit(
  _ database: OpaquePointer?,
  _ errorMessage: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ api: UnsafeRawPointer?
) -> CInt {
  registerExtension(
    database,
    errorMessage,
    api?.assumingMemoryBound(to: sqlite3_api_routines.self)
  )
}

/// The extension on stores that are damaged or made to mislead.
struct StoreTarget: FuzzTarget {
  private let template: [UInt8]

  init(_ setting: FuzzSetting) {
    template = FuzzStore.withoutChecks(setting.store)
  }

  private static let questions = [
    "SELECT page_data('latest', n), page_view(1, n), page_view('a', n) FROM number",
    "SELECT ram_read('b~1', 4000, 100000)",
    "SELECT * FROM ram_page('a') LIMIT 100",
    "SELECT * FROM ram_page(3) WHERE pfn BETWEEN 5 AND 30",
    "SELECT * FROM ram_diff(1, 2)",
    "SELECT * FROM ram_diff('c', 'a') WHERE pfn > 3",
    "SELECT * FROM ram_search('a', x'00ff') LIMIT 100",
    "SELECT * FROM ram_search('b', 'event', 4)",
    "SELECT * FROM ram_strings('latest', 3) LIMIT 100",
    "SELECT * FROM ram_strings('a', 2, 'utf-16le') LIMIT 100",
    "SELECT * FROM page_history('v', 5)",
    "SELECT * FROM page_owners((SELECT substr(digests, 1, 32) FROM chunk LIMIT 1))",
    "SELECT overlay_contents(kind, parameters, contents_chunk_id, contents_slot) FROM overlay",
    "SELECT lz4_frame_decode(data) FROM chunk_data",
    "SELECT chunk_pages(encoding, data) FROM chunk JOIN chunk_data ON chunk_id = id",
    "SELECT * FROM stored_page LIMIT 10", "SELECT * FROM snapshot_sharing",
  ]

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    var input = FuzzInput(data, count)
    let first = input.choice(of: Self.questions.count)
    let questionCount = 1 + input.choice(of: 4)
    guard let database = StoreMutation.apply(&input, to: template) else { return }
    defer { fuzz_close(database) }
    database.execute(
      """
      CREATE TEMP TABLE number AS
        SELECT column1 AS n FROM (VALUES (0), (3), (10), (17), (39), (40))
      """
    )
    for index in 0..<questionCount {
      database.execute(Self.questions[(first + index * 5) % Self.questions.count])
    }
  }

  var seeds: [[UInt8]] {
    // A question, how many, no bytes poked, one mutation of rows of each kind.
    Self.questions.indices.flatMap { question in
      [0, 7, 9, 12, 14, 15].map {
        [UInt8(question), 3, 0, 1, UInt8($0), UInt8(question), 1, 0, 0, 1, 7]
      }
    }
  }
}

/// Arguments of every function, on a sound store.
struct ArgumentTarget: FuzzTarget {
  private let database: UnsafeMutableRawPointer

  init(_ setting: FuzzSetting) {
    database = fuzz_open(setting.store, setting.store.count)!
  }

  /// Functions with the most arguments that they take, and the columns of tables.
  private static let functions: [(name: String, argumentCount: Int, columns: [String])] = [
    ("page_data", 2, []), ("page_view", 2, []), ("ram_read", 3, []), ("hexdump", 2, []),
    ("page_sha256", 1, []), ("lz4_frame_decode", 1, []), ("overlay_contents", 4, []),
    ("pfn", 1, []), ("gpa", 1, []), ("msr_overlay", 2, []), ("vmckpt_help", 0, []),
    ("ram_page", 1, ["pfn", "snapshots", "digest"]), ("ram_diff", 2, ["pfn", "different_bytes"]),
    ("ram_search", 3, ["gpa", "context"]), ("ram_strings", 3, ["gpa", "text"]),
    ("page_history", 2, ["snapshot_id", "digest"]), ("page_owners", 1, ["pfn"]),
  ]

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    var input = FuzzInput(data, count)
    let function = input.pick(Self.functions)
    // Also one too few and one too many.
    let argumentCount = max(0, function.argumentCount - 1 + input.choice(of: 3))
    var values = (0..<argumentCount).map { _ in FuzzValue(&input) }
    let list = values.indices.map { "?\($0 + 1)" }.joined(separator: ", ")
    var sql = "SELECT \(function.name)(\(list))"
    if !function.columns.isEmpty {
      sql = "SELECT * FROM \(function.name)(\(list))"
      var word = "WHERE"
      for _ in 0..<input.choice(of: 4) {
        values.append(FuzzValue(&input))
        let comparison = input.pick(["=", "<", "<=", ">", ">=", "<>", "IS", "LIKE"])
        sql += " \(word) \(input.pick(function.columns)) \(comparison) ?\(values.count)"
        word = "AND"
      }
      sql += input.pick(["", " ORDER BY 1", " ORDER BY 1 DESC", " LIMIT 3"])
    }
    database.execute(sql, values, rowLimit: 200)
  }

  var seeds: [[UInt8]] {
    // With both a snapshot's name and a number in every place.
    Self.functions.indices.flatMap { index in
      [[5, 1, 1, 5, 1, 5], [5, 1, 1, 20, 1, 30], [1, 1, 1, 3, 6, 9]].map {
        [UInt8(index), 1] + $0 + [1, 1, 16, 0, 0]
      }
    }
  }
}

/// `lz4_frame_decode`, whose argument may be anything.
struct LZ4Target: FuzzTarget {
  private let database: UnsafeMutableRawPointer

  init(_ setting: FuzzSetting) {
    database = fuzz_open(nil, 0)!
  }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    var input = FuzzInput(data, count)
    database.execute("SELECT lz4_frame_decode(?1)", [.blob(input.rest())])
  }

  var seeds: [[UInt8]] {
    [0, 1, 100, 70_000].map { StoreMutation.frame(byteCount: $0, Array("vmckpt".utf8)) }
  }
}
