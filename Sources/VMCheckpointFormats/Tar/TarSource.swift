import Glibc
import SystemPackage
import VMCheckpoint

/// Where the parts of an archive that are no member's data come from, in order.
protocol TarSource {
  /// The next `byteCount` bytes.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when there are fewer.
  mutating func read(byteCount: Int) throws(VMCheckpointError) -> [UInt8]

  /// Passes over a member's data.
  mutating func skip(byteCount: UInt64) throws(VMCheckpointError)

  /// What remains after the last member; `nil` when it has more than `limit` bytes.
  mutating func readRest(limit: Int) throws(VMCheckpointError) -> [UInt8]?
}

/// An archive in a file, read without its members' data.
struct TarFile: TarSource {
  let descriptor: FileDescriptor
  let byteCount: UInt64
  private var offset: UInt64 = 0

  init(descriptor: FileDescriptor, byteCount: UInt64) {
    self.descriptor = descriptor
    self.byteCount = byteCount
  }

  mutating func read(byteCount count: Int) throws(VMCheckpointError) -> [UInt8] {
    guard UInt64(count) <= byteCount - offset else { throw Self.truncated }
    let bytes = try Self.read(descriptor, at: offset, byteCount: count)
    offset += UInt64(count)
    return bytes
  }

  mutating func skip(byteCount count: UInt64) throws(VMCheckpointError) {
    guard count <= byteCount - offset else { throw Self.truncated }
    offset += count
  }

  mutating func readRest(limit: Int) throws(VMCheckpointError) -> [UInt8]? {
    let rest = byteCount - offset
    return rest <= UInt64(limit) ? try read(byteCount: Int(rest)) : nil
  }

  static let truncated = VMCheckpointError.invalidData(
    "is cut short",
    hint: "wait until it is written, or copy it again"
  )

  /// Bytes of a file, all of them.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the archive's name.
  static func read(
    _ descriptor: FileDescriptor,
    at offset: UInt64,
    byteCount: Int
  ) throws(VMCheckpointError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    // Array's own closures only rethrow untyped errors.
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(Errno) in try FileIO.read(into: buffer, from: descriptor, at: offset) }
    }
    switch result {
    case .success(byteCount): return bytes
    case .success: throw truncated
    case .failure(let error): throw VMCheckpointError(.inputOutput, "cannot be read: \(error)")
    }
  }
}

/// An archive without its members' data, as ``TarIndex/skeleton`` keeps it.
struct TarSkeleton: TarSource {
  private let bytes: [UInt8]
  private var offset = 0

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  mutating func read(byteCount: Int) throws(VMCheckpointError) -> [UInt8] {
    guard byteCount <= bytes.count - offset else { throw TarFile.truncated }
    defer { offset += byteCount }
    return Array(bytes[offset..<(offset + byteCount)])
  }

  func skip(byteCount: UInt64) {}

  mutating func readRest(limit: Int) throws(VMCheckpointError) -> [UInt8]? {
    let rest = bytes.count - offset
    return rest <= limit ? try read(byteCount: rest) : nil
  }
}
