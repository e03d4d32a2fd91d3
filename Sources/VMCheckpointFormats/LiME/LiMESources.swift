import VMCheckpoint

/// A capture of LiME in a file, as something to save. RAM is read in place.
struct LiMEFileSource: CaptureSource {
  let file: String

  var path: String? { file }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: file)
    return CaptureNames(snapshot: name, vm: name, description: "lime:\(file)")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let name = LiMECapture.title(file)
    try context.requireNoLayout(name: name)
    let guest = try MappedDump.open(path: file, noun: "LiME capture") {
      dump throws(VMCheckpointError) in
      let map = try LoadMap(LiMERanges.loads(in: dump), isX86: true)
      if let warning = map.paddingWarning(noun: "ranges") {
        context.control.onWarning?("\(name): \(warning)")
      }
      return map
    }
    return try use(guest)
  }
}

/// The ranges of a capture that is a file.
enum LiMERanges {
  /// Where each range is.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  static func loads(in file: DumpFile) throws(VMCheckpointError) -> [MemoryLoad] {
    var loads: [MemoryLoad] = []
    var offset: UInt64 = 0
    while loads.isEmpty || offset != file.byteCount {
      let number = loads.count + 1
      let bytes = try file.read(
        at: offset,
        byteCount: RangeHeader.byteCount,
        place: "in the header of range \(number)"
      )
      let header = try RangeHeader(bytes, number: number, offset: offset, allowed: [.plain])
      let byteCount = UInt64(header.range.addresses.count)
      offset += UInt64(RangeHeader.byteCount)
      try file.require(offset, byteCount, place: "in \(header.range.title)")
      loads.append(
        MemoryLoad(
          gpa: header.range.addresses.lowerBound,
          fileOffset: offset,
          fileByteCount: byteCount,
          memoryByteCount: byteCount
        )
      )
      offset += byteCount
    }
    try MemoryLoad.requireApart(loads, noun: "range", firstNumber: 1)
    return loads
  }
}

/// A capture of LiME from a pipe, as something to save.
struct LiMEStreamSource: CaptureSource {
  let fileDescriptor: Int32

  var path: String? { nil }

  var names: CaptureNames {
    CaptureNames(snapshot: "stdin", vm: "stdin", description: "lime:-")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let name = LiMECapture.title("stdin")
    try context.requireNoLayout(name: name)
    let stream = StreamReader(
      descriptor: fileDescriptor,
      name: name,
      cancellation: context.control.cancellation
    )
    let ranges = LiMEStream(try DumpInput(stream), name: name)
    return try use(.reading(ranges, context.control))
  }
}

/// The ranges of a capture in the order in which they come.
final class LiMEStream: RangeSource, @unchecked Sendable {
  let orderHint = "put it into a file, and give its PATH"

  let name: String
  private let input: DumpInput
  private var range: PhysicalRange?

  init(_ input: DumpInput, name: String) {
    self.input = input
    self.name = name
  }

  func nextRange() throws(VMCheckpointError) -> PhysicalRange? {
    if range != nil, try input.isAtEnd() { return nil }
    let number = (range?.number ?? 0) + 1
    let offset = input.offset
    let header = try RangeHeader(
      input.read(byteCount: RangeHeader.byteCount, place: "in the header of range \(number)"),
      number: number,
      offset: offset,
      allowed: [.plain]
    )
    range = header.range
    return header.range
  }

  func read(into room: UnsafeMutableRawBufferPointer) throws(VMCheckpointError) {
    try input.read(into: room, place: "in \(range?.title ?? "its RAM")")
  }

  // What LiME leaves out is not RAM.
  func zeros(between ranges: Range<UInt64>) -> [Range<UInt64>] { [] }
}
