import CSQLiteExtension
import VMCheckpointCore

/// A result of a function or a table's column.
enum SQLValue {
  case null
  case integer(Int64)
  case text(String)
  case blob([UInt8])
  /// Memory of `vmx_malloc`, which goes to SQLite.
  case ownedBlob(UnsafeMutableRawPointer, byteCount: Int)

  /// An integer, or NULL.
  static func number(_ value: Int64?) -> SQLValue { value.map { .integer($0) } ?? .null }

  /// The bits of a number without sign, such as an address; or NULL.
  static func bits(_ value: UInt64?) -> SQLValue {
    value.map { .integer(Int64(bitPattern: $0)) } ?? .null
  }

  /// A text, or NULL.
  static func string(_ value: String?) -> SQLValue { value.map { .text($0) } ?? .null }

  static func blob(copying bytes: UnsafeRawBufferPointer) -> SQLValue { .blob(Array(bytes)) }

  func set(as context: OpaquePointer?) {
    switch self {
    case .null: vmx_result_null(context)
    case .integer(let value): vmx_result_int64(context, value)
    case .text(var text):
      text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) {
          // An empty buffer has no address, and without one the result would be NULL.
          vmx_result_text(context, $0.baseAddress ?? emptyString, Int64($0.count))
        }
      }
    case .blob(let bytes):
      bytes.withUnsafeBytes {
        vmx_result_blob(context, $0.baseAddress ?? UnsafeRawPointer(emptyString), Int64($0.count))
      }
    case .ownedBlob(let pointer, let byteCount):
      vmx_result_owned_blob(context, pointer, Int64(byteCount))
    }
  }
}

private nonisolated(unsafe) let emptyString: UnsafePointer<CChar> = {
  let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
  pointer.pointee = 0
  return UnsafePointer(pointer)
}()

/// An argument of a function, valid during the call.
struct SQLArgument {
  let value: OpaquePointer?
  /// For messages.
  let name: String

  private var type: CInt { vmx_value_type(value) }

  var isNull: Bool { type == SQLITE_NULL }
  var isInteger: Bool { type == SQLITE_INTEGER }

  /// Calls `body` with the bytes of a BLOB, or of a text as UTF-8.
  ///
  /// - Throws: For numbers, and whatever `body` throws.
  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    guard type == SQLITE_BLOB || type == SQLITE_TEXT else {
      throw SQLError.misuse("\(name) must be a BLOB or a text")
    }
    var count: CInt = 0
    let bytes = vmx_value_bytes(value, &count)
    return try body(UnsafeRawBufferPointer(start: bytes, count: bytes == nil ? 0 : Int(count)))
  }

  /// A text.
  func text() throws -> String {
    guard type == SQLITE_TEXT else { throw SQLError.misuse("\(name) must be a text") }
    return try withBytes { String(decoding: $0, as: UTF8.self) }
  }

  /// A number of up to 64 bits: an integer, whose bits are taken as they are, or a text such as
  /// `0x4000`.
  func bits() throws -> UInt64 {
    switch type {
    case SQLITE_INTEGER: return UInt64(bitPattern: vmx_value_int64(value))
    case SQLITE_TEXT:
      let text = try text()
      let isHex = text.hasPrefix("0x") || text.hasPrefix("0X")
      let digits = isHex ? text.dropFirst(2) : text[...]
      if digits.first != "+", digits.first != "-",
        let number = UInt64(digits, radix: isHex ? 16 : 10)
      {
        return number
      }
    default: break
    }
    throw SQLError.misuse("\(name) must be an integer, or a text such as '0x4000'")
  }

  /// A number in `range`.
  func integer(in range: ClosedRange<Int64>) throws -> Int64 {
    let value = Int64(bitPattern: try bits())
    guard range.contains(value) else {
      throw SQLError.misuse(
        "\(name) is out of range: expected \(range.lowerBound) to \(range.upperBound)"
      )
    }
    return value
  }

  /// A PFN.
  func pfn() throws -> PFN {
    guard let pfn = PFN(rawValue: try bits()) else {
      throw SQLError.misuse("\(name) is out of range: a PFN has at most 52 bits")
    }
    return pfn
  }

  /// The integers that a comparison of an integer column with this value allows; `nil` when this
  /// is no number, and SQLite alone must compare.
  func bound(_ comparison: ComparisonOperator) -> ClosedRange<Int64>? {
    switch vmx_value_numeric_type(value) {
    case SQLITE_INTEGER:
      return comparison.range(vmx_value_int64(value))
    case SQLITE_FLOAT:
      let number = vmx_value_double(value)
      // SQLite compares exactly; a range one wider than the number loses no row.
      guard let near = Int64(exactly: number.rounded(.down)), near > .min + 1, near < .max - 1
      else { return nil }
      switch comparison {
      case .equal: return near...(near + 1)
      case .less, .lessOrEqual: return .min...(near + 1)
      case .greater, .greaterOrEqual: return near...(.max)
      }
    default:
      return nil
    }
  }
}

/// A comparison that SQLite hands to a table.
enum ComparisonOperator: Int, CaseIterable {
  case equal, less, lessOrEqual, greater, greaterOrEqual

  init?(_ code: UInt8) {
    switch CInt(code) {
    case SQLITE_INDEX_CONSTRAINT_EQ: self = .equal
    case SQLITE_INDEX_CONSTRAINT_LT: self = .less
    case SQLITE_INDEX_CONSTRAINT_LE: self = .lessOrEqual
    case SQLITE_INDEX_CONSTRAINT_GT: self = .greater
    case SQLITE_INDEX_CONSTRAINT_GE: self = .greaterOrEqual
    default: return nil
    }
  }

  var symbol: String {
    switch self {
    case .equal: "="
    case .less: "<"
    case .lessOrEqual: "<="
    case .greater: ">"
    case .greaterOrEqual: ">="
    }
  }

  /// Wider than exact at the ends of the integers, which loses no row.
  func range(_ value: Int64) -> ClosedRange<Int64> {
    switch self {
    case .equal: value...value
    case .less: .min...(value == .min ? value : value - 1)
    case .lessOrEqual: .min...value
    case .greater: (value == .max ? value : value + 1)...(.max)
    case .greaterOrEqual: value...(.max)
    }
  }
}
