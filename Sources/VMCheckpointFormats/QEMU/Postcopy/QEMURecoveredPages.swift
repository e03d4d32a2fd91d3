import Foundation
import Glibc
import VMCheckpoint

/// What a QEMU that goes on with another source has said up to then: which pages it has, and which it waits for.
///
/// The source need not be the process that has asked. QEMU before 8.2 takes no other source when one is gone
/// between the question and its end, so ``QEMUResume`` asks by itself, and its server goes on from here.
struct QEMURecoveredPages {
  /// QEMU answers at once, unless its host is very busy.
  private static let answerSeconds = 60.0
  private static let pollMilliseconds: Int32 = 100
  /// More threads than a guest has.
  private static let maximumRequestCount = 4096

  /// For each block of RAM, a bit for each page that is there.
  private(set) var bitmaps: [[UInt8]] = []
  /// Requests that came meanwhile, as they were on the return path.
  private(set) var requests: [UInt8] = []

  /// Asks QEMU which pages it has, and lets it go on.
  ///
  /// - Throws: ``VMCheckpointError``: `unavailable` when QEMU goes away or does not answer; `invalidData` for what it
  ///   cannot have sent; `cancelled`.
  init(
    from channel: QEMUPostcopyChannel,
    blocks: [QEMUMachineRecord.RAMBlock],
    control: OperationControl
  ) throws(VMCheckpointError) {
    var path = QEMUReturnPath()
    for block in blocks {
      let name = Array(block.name.utf8)
      path.expectBitmap(pageCount: Page.count(inByteCount: block.byteCount))
      channel.append { $0 += QEMUPostcopyStream.askForBitmap(name) }
      let answer = try answer(&path, from: channel, control)
      guard case .received(name, let bitmap) = answer else {
        throw QEMUReturnPath.invalid("another answer than a bitmap")
      }
      bitmaps.append(bitmap)
    }
    channel.append { $0 += QEMUPostcopyStream.resume }
    guard case .resumed(QEMUReturnPath.resumedValue) = try answer(&path, from: channel, control)
    else { throw Self.refusal }
    requests += path.rest
  }

  private static let refusal = VMCheckpointError(
    .unavailable,
    "QEMU does not go on with this server; it says why"
  )

  /// The next message that is not a request.
  private mutating func answer(
    _ path: inout QEMUReturnPath,
    from channel: QEMUPostcopyChannel,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> QEMUReturnPath.Message {
    let deadline = MonotonicClock.nowSeconds + Self.answerSeconds
    var requestCount = 0
    while true {
      while let message = try path.next() {
        guard case .request(let block, let start, let byteCount) = message else { return message }
        requestCount += 1
        guard requestCount <= Self.maximumRequestCount else {
          throw QEMUReturnPath.invalid("more requests than a guest has threads")
        }
        requests += QEMUReturnPath.request(block: block, start: start, byteCount: byteCount)
      }
      try control.cancellation.check()
      guard !channel.isClosed, MonotonicClock.nowSeconds < deadline else { throw Self.refusal }
      try channel.send()
      channel.wait(milliseconds: Self.pollMilliseconds)
      try channel.receive { path.feed($0) }
    }
  }

  // MARK: Files

  /// Writes it for another process of this user.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate`.
  func write(to path: String) throws(VMCheckpointError) {
    var bytes: [UInt8] = []
    for bitmap in bitmaps {
      bytes.appendBigEndian(UInt64(bitmap.count))
      bytes += bitmap
    }
    bytes += requests
    guard
      FileManager.default.createFile(
        atPath: path,
        contents: Data(bytes),
        attributes: [.posixPermissions: 0o600]
      )
    else { throw VMCheckpointError(.cannotCreate, "cannot create \(quotedName(path))") }
  }

  /// Reads what ``write(to:)`` has written.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, or `invalidData` when it is not of these blocks.
  init(path: String, blocks: [QEMUMachineRecord.RAMBlock]) throws(VMCheckpointError) {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw VMCheckpointError(.notFound, "cannot read \(quotedName(path))")
    }
    var rest = [UInt8](data)[...]
    for block in blocks {
      let expected = (Page.count(inByteCount: block.byteCount) + 63) / 64 * 8
      let byteCount = rest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
      rest = rest.dropFirst(8)
      guard byteCount == expected, UInt64(rest.count) >= expected else {
        throw .invalidData("\(quotedName(path)) is not of this guest")
      }
      bitmaps.append(Array(rest.prefix(Int(expected))))
      rest = rest.dropFirst(Int(expected))
    }
    requests = Array(rest)
  }
}
