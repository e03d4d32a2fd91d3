import CFuzzHost
import GRDBSQLite

/// Takes a fuzzer's bytes apart into choices and values. Behind the end, everything is zero.
struct FuzzInput {
  private var bytes: UnsafeBufferPointer<UInt8>.SubSequence

  init(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    bytes = UnsafeBufferPointer(start: data, count: count)[...]
  }

  var isAtEnd: Bool { bytes.isEmpty }

  mutating func byte() -> UInt8 { bytes.popFirst() ?? 0 }

  mutating func integer<Value: FixedWidthInteger>(_: Value.Type = Value.self) -> Value {
    var value: Value = 0
    for _ in 0..<(Value.bitWidth / 8) { value = value << 8 | Value(truncatingIfNeeded: byte()) }
    return value
  }

  /// A number below `count`, which is at most 65536.
  mutating func choice(of count: Int) -> Int {
    count <= 256 ? Int(byte()) % count : Int(integer(UInt16.self)) % count
  }

  mutating func pick<Value>(_ values: [Value]) -> Value { values[choice(of: values.count)] }

  /// Up to `limit` bytes, whose number comes first.
  mutating func some(limit: Int) -> [UInt8] {
    let count = limit <= 255 ? Int(byte()) : Int(integer(UInt16.self))
    let taken = bytes.prefix(min(count, limit))
    bytes = bytes.dropFirst(taken.count)
    return Array(taken)
  }

  mutating func rest() -> [UInt8] {
    defer { bytes = bytes.suffix(0) }
    return Array(bytes)
  }
}

/// A value that is bound to a statement.
enum FuzzValue {
  case null
  case integer(Int64)
  case real(Double)
  case text([UInt8])
  case blob([UInt8])

  /// Where conversions, limits and shifts go wrong.
  static let integers: [Int64] = [
    0, 1, 2, 3, 15, 16, 17, 31, 39, 40, 41, 79, 80, 255, 256, 4095, 4096, 4097, 8192, 65535, 65536,
    65537, 0x4000_0001, 0x4000_0021, 0x4000_0073, 0x4000_0083, 1 << 30, 1 << 31, 1 << 32, 1 << 40,
    (1 << 52) - 4096, (1 << 52) - 1, 1 << 52, 1 << 62, .max - 4095, .max, .min, -1, -2, -4096,
  ]

  static let texts = [
    "", "a", "b", "c", "latest", "latest~1", "a~1", "c~2", "b~99999999999999999999", "v", "w",
    "hypercall", "reference-tsc", "synic-message", "synic-event", "vp-assist", "ascii", "utf-16le",
    #"{"variant":"vmcall"}"#, #"{"tsc_frequency_hz":2400000000}"#, "{}", "null", "[", "lz4", "raw",
    "0x10", "0x", "0xffffffffffffffff", "18446744073709551616", "-1", "complete", "writing",
  ]

  init(_ input: inout FuzzInput) {
    switch input.choice(of: 10) {
    case 0: self = .null
    case 1, 2: self = .integer(input.pick(Self.integers))
    case 3: self = .integer(input.integer())
    case 4: self = .real(Double(bitPattern: input.integer()))
    case 5, 6: self = .text(Array(input.pick(Self.texts).utf8))
    case 7: self = .text(input.some(limit: 300))
    case 8: self = .blob(input.some(limit: 5000))
    // Long ones, which a fuzzer's input is not.
    default:
      self = .blob(
        [UInt8](repeating: input.byte(), count: Int(input.integer(UInt32.self) % 140_000))
      )
    }
  }
}

extension UnsafeMutableRawPointer {
  /// Runs statements on this database, which ``fuzz_open`` gave.
  @discardableResult
  func execute(
    _ sql: String,
    _ values: [FuzzValue] = [],
    rowLimit: Int = 2000,
    instructionLimit: Int = 2_000_000
  ) -> CInt {
    // All bytes of all values one after the other, each found by its offset.
    var storage: [UInt8] = []
    var offsets: [Int] = []
    for value in values {
      offsets.append(storage.count)
      switch value {
      case .text(let bytes), .blob(let bytes): storage += bytes
      default: break
      }
    }
    storage.append(0)
    return storage.withUnsafeBufferPointer { storage in
      let bound = values.indices.map { index in
        var bound = fuzz_value()
        bound.bytes = storage.baseAddress! + offsets[index]
        switch values[index] {
        case .null: bound.type = SQLITE_NULL
        case .integer(let value): (bound.type, bound.integer) = (SQLITE_INTEGER, value)
        case .real(let value): (bound.type, bound.real) = (SQLITE_FLOAT, value)
        case .text(let bytes): (bound.type, bound.byte_count) = (SQLITE_TEXT, bytes.count)
        case .blob(let bytes): (bound.type, bound.byte_count) = (SQLITE_BLOB, bytes.count)
        }
        return bound
      }
      return fuzz_execute(self, sql, bound, bound.count, rowLimit, instructionLimit)
    }
  }
}
