import SystemPackage
import VMCheckpoint

/// Where the headers of a dump of memory are read from.
protocol DumpSource {
  /// The file's size; `nil`: a stream.
  var byteCount: UInt64? { get }

  /// `byteCount` bytes from `offset` on.
  ///
  /// - Parameter place: Where they are, for the error when the file has fewer, as in "in its header".
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  mutating func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8]
}

extension DumpSource {
  /// Checks that the file has `byteCount` bytes from `offset` on; a stream shows that only at its end.
  func require(_ offset: UInt64, _ byteCount: UInt64, place: String) throws(VMCheckpointError) {
    let (end, overflows) = offset.addingReportingOverflow(byteCount)
    guard !overflows, end <= self.byteCount ?? UInt64(Int64.max) else { throw .cutShort(place) }
  }
}

/// A dump in a file.
struct DumpFile: DumpSource {
  let descriptor: FileDescriptor
  let byteCount: UInt64?
  /// Where no piece of a flattened dump has put bytes, ascending. They read as zeros.
  private let gaps: [Range<UInt64>]

  init(descriptor: FileDescriptor, byteCount: UInt64?, gaps: [Range<UInt64>] = []) {
    self.descriptor = descriptor
    self.byteCount = byteCount
    self.gaps = gaps
  }

  /// Checks that there are bytes in all of a range that is in the file.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  func requireNoGap(
    _ offset: UInt64,
    _ byteCount: UInt64,
    place: String
  ) throws(VMCheckpointError) {
    // A dump's writer leaves gaps in its headers alone: pages are behind the last one.
    guard let last = gaps.last, offset < last.upperBound, byteCount > 0 else { return }
    var (low, high) = (0, gaps.count)
    while low < high {
      let middle = (low + high) / 2
      if gaps[middle].upperBound <= offset { low = middle + 1 } else { high = middle }
    }
    guard gaps[low].lowerBound < offset + byteCount else { return }
    throw .invalidData(
      "lacks the flattened pieces \(place)",
      hint: "copy it again, or dump again"
    )
  }

  func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8] {
    try require(offset, UInt64(byteCount), place: place)
    var bytes = [UInt8](repeating: 0, count: byteCount)
    // Array's own closures only rethrow untyped errors.
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(Errno) in try FileIO.read(into: buffer, from: descriptor, at: offset) }
    }
    switch result {
    case .success(byteCount): return bytes
    case .success: throw .cutShort(place)
    case .failure(let error): throw VMCheckpointError(.inputOutput, "cannot be read: \(error)")
    }
  }
}

/// A dump in memory.
struct DumpBytes: DumpSource {
  private let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var byteCount: UInt64? { UInt64(bytes.count) }

  func read(
    at offset: UInt64,
    byteCount: Int,
    place: String
  ) throws(VMCheckpointError) -> [UInt8] {
    try require(offset, UInt64(byteCount), place: place)
    return Array(bytes[Int(offset)..<(Int(offset) + byteCount)])
  }
}

extension VMCheckpointError {
  /// The error for a dump that ends too early; its message goes on after the file's name.
  static func cutShort(_ place: String) -> VMCheckpointError {
    .invalidData("is cut short \(place)", hint: "wait until it is written, or copy it again")
  }

  /// The error with the name of the file that it is about, with which its message goes on.
  func naming(_ name: String) -> VMCheckpointError {
    VMCheckpointError(code, "\(name) \(message)", hint: hint)
  }
}

extension CaptureContext {
  /// Checks that the request does not say where RAM is: the dump says it.
  func requireNoLayout(name: String) throws(VMCheckpointError) {
    guard request.layout == .contiguous else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(name) says itself where its RAM lies",
        hint: "give no memory regions"
      )
    }
  }
}
