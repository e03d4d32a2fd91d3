import CFuzzHost
import VMCheckpoint
import VMCheckpointTestSupport

/// The store that is mutated: three small snapshots of two VMs, with overlays and device states.
enum FuzzStore {
  /// The bytes of the store's file.
  static func make(in directory: TemporaryDirectory) throws -> [UInt8] {
    let path = directory.file("template.db")
    var generator = TestGenerator(seed: 1)
    let first = generator.mixedImage(pageCount: 40)
    var second = first
    second.replaceSubrange(0..<(6 * 4096), with: generator.mixedImage(pageCount: 6))
    let stored = #"{"kind":"synic-event","vp":0,"pfn":3,"contents":"\#(page("event"))"}"#
    let overlays = #"""
      {"format": 1, "guest_os_id": "0x8100060100000000", "overlays": [
        {"kind": "hypercall", "pfn": 10, "variant": "vmcall"}, \#(stored),
        {"kind": "reference-tsc", "pfn": 10, "tsc_frequency_hz": 2400000000}]}
      """#
    for (name, vm, ram) in [
      ("a", "v", first), ("b", "v", second), ("c", "w", Array(first.dropFirst(20 * 4096))),
    ] {
      let ramPath = directory.file("\(name).ram")
      try writeFile(ramPath, ram)
      _ = try Store.save(
        SaveRequest(
          input: .file(path: ramPath),
          name: name,
          vm: vm,
          tags: ["k": "v"],
          overlays: name == "a"
            ? try OverlayDocument(json: Array(overlays.utf8))
            : OverlayDocument(guestOSID: nil, records: []),
          deviceStates: [
            DeviceState(
              name: "cpu",
              format: "test",
              version: 1,
              data: Array(repeating: 7, count: 5000)
            )
          ]
        ),
        toStoreAt: path
      )
    }
    return try readFile(path)
  }

  /// The same store without what keeps impossible values out of its tables. The SQL of their
  /// definitions keeps its length, so that nothing moves.
  static func withoutChecks(_ image: [UInt8]) -> [UInt8] {
    let database = fuzz_open(image, image.count)!
    database.execute(
      """
      PRAGMA writable_schema = ON;
      UPDATE sqlite_schema SET sql = replace(replace(replace(replace(sql,
        'IS NOT NULL', 'NOTNULL'), ') STRICT, WITHOUT ROWID', ') WITHOUT ROWID'),
        ') STRICT', ')'), ' NOT NULL', '') WHERE type = 'table';
      """
    )
    defer { fuzz_close(database) }
    return bytes(of: database)
  }

  /// The bytes of a database.
  static func bytes(of database: UnsafeMutableRawPointer) -> [UInt8] {
    var count = 0
    guard let image = fuzz_image(database, &count) else { return [] }
    defer { fuzz_free(image) }
    return Array(UnsafeBufferPointer(start: image, count: count))
  }

  private static func page(_ text: String) -> String {
    base64(Array(text.utf8) + [UInt8](repeating: 0, count: 4096 - text.utf8.count))
  }

  private static func base64(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    var text = ""
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = (0..<3).map { start + $0 < bytes.count ? Int(bytes[start + $0]) : 0 }
      let number = group[0] << 16 | group[1] << 8 | group[2]
      for index in 0..<4 {
        text.append(start + index > bytes.count ? "=" : digits[number >> (18 - 6 * index) & 63])
      }
    }
    return text
  }
}
