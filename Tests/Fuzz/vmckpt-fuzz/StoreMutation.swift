import CFuzzHost

@testable import VMCheckpoint
@testable import VMCheckpointCore

/// Makes a hostile store of a sound one, as a fuzzer's bytes choose.
enum StoreMutation {
  /// Integer columns that choose rows come first.
  private static let tables: [(name: String, key: String, columns: [String])] = [
    (
      "snapshot", "id",
      [
        "id", "uuid", "name", "vm", "parent_id", "state", "completed_at", "guest_os_id",
        "cpu_vendor", "tsc_frequency_hz", "ram_bytes", "stored_pages", "ram_checksum", "ram_digest",
        "digest",
      ]
    ),
    ("memory_region", "gpa", ["snapshot_id", "gpa", "bytes", "file_offset", "name"]),
    ("chunk", "id", ["id", "page_count", "stored_bytes", "encoding", "digests"]),
    ("chunk_data", "chunk_id", ["chunk_id", "data"]),
    (
      "ram_extent", "first_pfn",
      ["snapshot_id", "first_pfn", "page_count", "chunk_id", "first_slot", "checksum"]
    ),
    (
      "overlay", "pfn",
      [
        "snapshot_id", "pfn", "kind", "vp", "parameters", "contents_chunk_id", "contents_slot",
        "baked",
      ]
    ),
    ("overlay_kind", "priority", ["kind", "priority", "scope", "contents"]),
    ("snapshot_tag", "snapshot_id", ["key", "value"]),
    (
      "device_state", "position",
      ["position", "name", "format", "version", "bytes", "sha256", "encoding", "data"]
    ),
    ("page_index_run", "id", ["id", "state", "entry_count", "fences"]),
    ("page_index_block", "id", ["id", "entries"]),
    ("store", "id", ["uuid", "created_at", "created_by", "fingerprint_seed"]),
  ]

  private static let endless =
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT"

  /// Objects that a store should not have, or not so.
  private static let smuggled = [
    "DROP TABLE chunk_data; CREATE VIEW chunk_data AS \(endless) i AS chunk_id, x'00' AS data FROM n",
    "DROP TABLE ram_extent; CREATE VIEW ram_extent AS \(endless) 1 AS snapshot_id, i AS first_pfn, 1 AS page_count, 1 AS chunk_id, 0 AS first_slot, 0 AS checksum FROM n",
    "DROP TABLE memory_region; CREATE VIEW memory_region AS \(endless) 1 AS snapshot_id, i * 4096 AS gpa, 4096 AS bytes, i * 4096 AS file_offset, '' AS name FROM n",
    "DROP VIEW chunk_slot; CREATE VIEW chunk_slot (slot) AS \(endless) i FROM n",
    "DROP VIEW chunk_slot; CREATE VIEW chunk_slot (slot) AS VALUES (0), (0), (5)",
    "DROP VIEW stored_page; CREATE VIEW stored_page AS SELECT hex(page_data('a', 1)) AS digest",
    "CREATE TRIGGER t AFTER UPDATE ON snapshot BEGIN DELETE FROM chunk; END",
    "CREATE TABLE ram_page (pfn, gpa, state)", "CREATE VIEW ram_diff AS SELECT 1 AS pfn",
    "CREATE TABLE vmckpt_help (name)", "CREATE VIEW page_owners AS \(endless) i FROM n",
    "DROP TABLE overlay_kind", "DROP TABLE chunk", "DROP TABLE overlay", "DELETE FROM chunk_data",
    "DROP TABLE chunk; CREATE TABLE chunk (id INTEGER PRIMARY KEY, page_count GENERATED ALWAYS AS (length(page_data(1, 0))), encoding, stored_bytes, digests)",
  ]

  /// A mutation of `image`: bytes of the file first, if any, then rows. A database that SQLite
  /// cannot open is `nil`.
  static func apply(_ input: inout FuzzInput, to image: [UInt8]) -> UnsafeMutableRawPointer? {
    var image = image
    var pokes: Int = input.choice(of: 8)
    while pokes > 0, pokes < 6 {
      // The first 100 bytes are the header of the file.
      let offset = 100 + Int(input.integer(UInt32.self)) % (image.count - 100)
      for (index, byte) in input.some(limit: 32).enumerated() where offset + index < image.count {
        image[offset + index] = byte
      }
      pokes -= 1
    }
    guard let database = fuzz_open(image, image.count) else { return nil }
    database.execute("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF")
    for _ in 0..<input.choice(of: 5) { mutateRows(&input, database) }
    return database
  }

  private static func mutateRows(_ input: inout FuzzInput, _ database: UnsafeMutableRawPointer) {
    let kind = input.byte()
    if kind % 16 == 15 {
      database.execute(input.pick(smuggled))
      return
    }
    let table = input.pick(tables)
    let column = input.pick(table.columns)
    let key = table.key
    let divisor = [1, 2, 3, 7][input.choice(of: 4)]
    let rows = "\(key) % \(divisor) = \(input.choice(of: divisor))"
    switch kind % 16 {
    case 0...6:
      database.execute(
        "UPDATE OR REPLACE \(table.name) SET \(column) = ?1 WHERE \(rows)",
        [FuzzValue(&input)]
      )
    case 7, 8:
      let difference = Int64(Int16(bitPattern: input.integer()))
      database.execute(
        "UPDATE OR REPLACE \(table.name) SET \(column) = \(column) + ?1 WHERE \(rows)",
        [.integer(difference)]
      )
    case 9...11:
      // Within a BLOB or text.
      database.execute(
        """
        UPDATE OR REPLACE \(table.name) SET \(column) = CAST(substr(\(column), 1, ?1) || ?2
          || substr(\(column), ?1 + 1 + length(?2)) AS BLOB) WHERE \(rows)
        """,
        [.integer(Int64(input.choice(of: 65536))), .blob(input.some(limit: 64))]
      )
    case 12, 13:
      // A sound frame of something else, which no mutation of a frame would be.
      database.execute(
        "UPDATE chunk_data SET data = ?1; UPDATE chunk SET stored_bytes = length(?1), encoding = 'lz4'",
        [.blob(frame(byteCount: Int(input.integer(UInt32.self) % 200_000), input.some(limit: 64)))]
      )
    default:
      database.execute("DELETE FROM \(table.name) WHERE \(rows)")
    }
  }

  /// An LZ4 frame of `pattern` again and again.
  static func frame(byteCount: Int, _ pattern: [UInt8]) -> [UInt8] {
    let pattern = pattern.isEmpty ? [0] : pattern
    let content = (0..<byteCount).map { pattern[$0 % pattern.count] }
    var frame = [UInt8](repeating: 0, count: LZ4Frame.bound(byteCount: byteCount))
    let count = content.withUnsafeBytes { source in
      frame.withUnsafeMutableBytes { (try? LZ4Frame.compress(source, into: $0)) ?? 0 }
    }
    return Array(frame.prefix(count))
  }
}
