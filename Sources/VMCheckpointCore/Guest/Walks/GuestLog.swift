/// A record of a guest kernel's log.
package struct GuestLogRecord {
  package var sequence: UInt64?
  /// From the guest's boot on.
  package var nanoseconds: UInt64?
  /// 0 (emergency) to 7 (debug).
  package var level: UInt64?
  /// 0 is the kernel; others came through `/dev/kmsg`.
  package var facility: UInt64?
  /// `nil` when newer records have taken its place.
  package var text: String?
  package var note: String?
}

/// The ring of log records that kernels have from 5.10 on.
private struct LogRing {
  /// The upper two bits of a descriptor's state are what it is in; the others are its identifier.
  static let identifierMask: UInt64 = 1 << 62 - 1

  var descriptors: UInt64
  var infos: UInt64
  var texts: UInt64
  var countBits: UInt64
  var sizeBits: UInt64
  var descriptorByteCount: UInt64
  var infoByteCount: UInt64
}

extension GuestKernel {
  /// The kernel's log, the oldest record first.
  ///
  /// - Throws: ``GuestFault`` when this kernel has no such log, or that is damaged.
  package func logRecords() throws -> [GuestLogRecord] {
    do {
      return try recordsOfLog()
    } catch let fault as GuestFault {
      throw GuestFault.broken("the kernel's log cannot be read: \(fault)")
    }
  }

  /// So many of the newest records may be in the making, as many of the oldest given up.
  private static let recordsInMotion: UInt64 = 8

  private func recordsOfLog() throws -> [GuestLogRecord] {
    let buffer = try u64(symbol("prb"))
    let descriptorRing = try address(buffer, "printk_ringbuffer", "desc_ring")
    let textRing = try address(buffer, "printk_ringbuffer", "text_data_ring")
    let ring = LogRing(
      descriptors: try u64(descriptorRing, "prb_desc_ring", "descs"),
      infos: try u64(descriptorRing, "prb_desc_ring", "infos"),
      texts: try u64(textRing, "prb_data_ring", "data"),
      countBits: try u64(descriptorRing, "prb_desc_ring", "count_bits"),
      sizeBits: try u64(textRing, "prb_data_ring", "size_bits"),
      descriptorByteCount: UInt64(try byteCount(of: "prb_desc")),
      infoByteCount: UInt64(try byteCount(of: "printk_info"))
    )
    guard (1...24).contains(ring.countBits), (4...30).contains(ring.sizeBits) else {
      throw GuestFault.broken("the log's sizes are impossible")
    }
    let tail = try u64(descriptorRing, "prb_desc_ring", "tail_id") & LogRing.identifierMask
    let head = try u64(descriptorRing, "prb_desc_ring", "head_id") & LogRing.identifierMask
    let count = (head &- tail) & LogRing.identifierMask
    guard count < 1 << ring.countBits else {
      throw GuestFault.broken("the log's ends are further apart than it is long")
    }

    var records: [GuestLogRecord] = []
    var (missingCount, givenUpCount) = (0, UInt64(0))
    for step in 0...count {
      var record = GuestLogRecord()
      do {
        let identifier = (tail &+ step) & LogRing.identifierMask
        switch try read(identifier, of: ring, into: &record) {
        case .record: break
        case .givenUp:
          givenUpCount += 1
          continue
        case .nothing:
          let isInMotion = step < Self.recordsInMotion || count - step < Self.recordsInMotion
          if !isInMotion { missingCount += 1 }
          continue
        }
      } catch let fault as GuestFault {
        note("\(fault)")
      }
      record.note = takeNotes()
      records.append(record)
    }
    if missingCount > 0 {
      note(
        "\(missingCount) of \(count + 1 - givenUpCount) records are missing: their descriptors are damaged"
      )
    }
    return records
  }

  /// What a descriptor is.
  private enum Place {
    case record
    /// A record's whose text has made room for newer ones. Texts are longer than the kernel reckons with, so that in a log
    /// that has gone once round most descriptors are such.
    case givenUp
    /// No record's, as at the ring's head while one is made.
    case nothing
  }

  private func read(
    _ identifier: UInt64,
    of ring: LogRing,
    into record: inout GuestLogRecord
  ) throws -> Place {
    let slot = identifier & (1 << ring.countBits - 1)
    let descriptor = ring.descriptors &+ slot &* ring.descriptorByteCount
    let state = try u64(descriptor, "prb_desc", "state_var")
    // Committed or finalized, and not the slot's next record.
    guard state & LogRing.identifierMask == identifier, state >> 62 != 0 else { return .nothing }
    guard state >> 62 != 3 else { return .givenUp }
    let info = ring.infos &+ slot &* ring.infoByteCount
    let sequence = try u64(info, "printk_info", "seq")
    // A place in the ring has every such record: the number shows which.
    guard sequence & (1 << ring.countBits - 1) == slot else {
      throw GuestFault.broken("a record at place \(slot) cannot have the number \(sequence)")
    }
    record.sequence = sequence
    let nanoseconds = try u64(info, "printk_info", "ts_nsec")
    guard nanoseconds < Self.nanosecondLimit else {
      throw GuestFault.broken("nothing is logged \(nanoseconds) ns after boot")
    }
    record.nanoseconds = nanoseconds
    record.level = try u64(info, "printk_info", "level")
    record.facility = try u64(info, "printk_info", "facility")
    let length = try u64(info, "printk_info", "text_len")
    let begin = try u64(descriptor, "prb_desc", "text_blk_lpos.begin")
    let next = try u64(descriptor, "prb_desc", "text_blk_lpos.next")
    record.text = try logText(begin..<max(begin, next), length, identifier, ring)
    if record.text == nil { note("its text is overwritten") }
    return .record
  }

  /// The text in the data ring at these logical positions.
  private func logText(
    _ block: Range<UInt64>,
    _ length: UInt64,
    _ identifier: UInt64,
    _ ring: LogRing
  ) throws -> String? {
    // Odd positions: no text (3), or no room for one (1).
    if block.lowerBound & 1 != 0 { return block.lowerBound == 3 ? "" : nil }
    let mask = (UInt64(1) << ring.sizeBits) - 1
    var (start, size) = (block.lowerBound & mask, block.upperBound - block.lowerBound)
    // A block that the ring's end would cut is at its beginning.
    if block.lowerBound >> ring.sizeBits != (block.upperBound &- 1) >> ring.sizeBits {
      (start, size) = (0, block.upperBound & mask)
    }
    guard size >= 8, size <= mask + 1, start + size <= mask + 1,
      try u64(ring.texts &+ start) & LogRing.identifierMask == identifier
    else { return nil }
    let bytes = try bytes(ring.texts &+ start &+ 8, count: Int(min(length, size - 8)))
    return GuestText.escaped(bytes, keepingLines: true)
  }
}
