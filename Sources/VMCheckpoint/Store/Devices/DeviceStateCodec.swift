import Foundation

/// The stored form of device state: an LZ4 frame, or the bytes themselves where that is no longer.
enum DeviceStateCodec {
  struct Encoded {
    /// `lz4` or `raw`, as in the `encoding` column.
    var encoding: String
    var data: Data
    /// SHA-256 of the bytes before compression.
    var sha256: Data
  }

  static func encode(_ bytes: [UInt8]) throws(VMCheckpointError) -> Encoded {
    let sha256 = Data(SHA256Hasher.hash(bytes))
    let frame = try LargeMemory.allocate(byteCount: LZ4Frame.bound(byteCount: bytes.count))
    defer { LargeMemory.free(frame) }
    // Array's own closures only rethrow untyped errors.
    let compressed = bytes.withUnsafeBytes { source in
      Result { () throws(VMCheckpointError) in try LZ4Frame.compress(source, into: frame) }
    }
    let byteCount = try compressed.get()
    try LargeMemory.require(byteCount: min(byteCount, bytes.count))
    guard byteCount < bytes.count else {
      return Encoded(encoding: "raw", data: Data(bytes), sha256: sha256)
    }
    return Encoded(encoding: "lz4", data: Data(frame.prefix(byteCount)), sha256: sha256)
  }

  /// The bytes before compression.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when length or SHA-256 are not right, or the
  ///   encoding is unknown.
  static func decode(
    _ data: Data,
    encoding: String,
    byteCount: Int64,
    sha256: Data,
    name: String
  ) throws(VMCheckpointError) -> [UInt8] {
    guard encoding == "lz4" || encoding == "raw" else {
      throw VMCheckpointError(
        .corrupt,
        "device state \(quotedName(name)) has the encoding \(quotedName(encoding)), which is unknown",
        hint: "use the vmckpt that wrote it, or a newer one"
      )
    }
    guard let bytes = try decodedBytes(data, encoding: encoding, byteCount: byteCount),
      Data(SHA256Hasher.hash(bytes)) == sha256
    else {
      throw VMCheckpointError(
        .corrupt,
        "device state \(quotedName(name)) is damaged",
        hint: "see what else is hurt with: vmckpt verify"
      )
    }
    return bytes
  }

  private static func decodedBytes(
    _ data: Data,
    encoding: String,
    byteCount: Int64
  ) throws(VMCheckpointError) -> [UInt8]? {
    guard (0...Int64(DeviceState.maximumByteCount)).contains(byteCount) else { return nil }
    try LargeMemory.require(byteCount: min(Int(byteCount), data.count * 255))
    if encoding == "raw" { return data.count == byteCount ? Array(data) : nil }
    // A frame expands at most 255 times: bounds what a hostile `bytes` makes us allocate.
    guard encoding == "lz4", byteCount <= Int64(data.count) * 255 else { return nil }
    let decoder = try LZ4FrameDecoder()
    var bytes = [UInt8](repeating: 0, count: Int(byteCount))
    let problem = data.withUnsafeBytes { source in
      bytes.withUnsafeMutableBytes { decoder.decompress(source, into: $0) }
    }
    return problem == nil ? bytes : nil
  }
}
