/// Reads of a kernel's memory by virtual address.
extension GuestKernel {
  /// Longer reads are refused.
  package static let maximumReadByteCount = 1 << 30

  /// Fills `destination` with the bytes from `va` on.
  ///
  /// - Throws: ``GuestFault`` when any of them cannot be read.
  package func read(_ va: UInt64, into destination: UnsafeMutableRawBufferPointer) throws {
    var offset = 0
    while offset < destination.count {
      let address = va &+ UInt64(offset)
      let pageOffset = Int(address & UInt64(Page.byteCount - 1))
      let count = min(Page.byteCount - pageOffset, destination.count - offset)
      let gpa = try translate(address)
      guard let page = try ram.page(gpa >> UInt64(Page.shift)) else {
        throw GuestFault.notRAM(gpa)
      }
      (destination.baseAddress! + offset).copyMemory(from: page + pageOffset, byteCount: count)
      offset += count
    }
  }

  /// `count` bytes from `va` on.
  ///
  /// - Throws: ``GuestFault`` when any of them cannot be read, or there are too many.
  package func bytes(_ va: UInt64, count: Int) throws -> [UInt8] {
    guard (0...Self.maximumReadByteCount).contains(count) else {
      throw GuestFault.broken("a length of \(count) bytes at \(hexString(va)) is impossible")
    }
    // The first bytes decide whether memory for all is worth taking.
    if count > 1 << 20 { _ = try number(va, as: UInt8.self) }
    return try [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      try read(va, into: UnsafeMutableRawBufferPointer(buffer))
      initializedCount = count
    }
  }

  /// A little-endian number.
  ///
  /// - Throws: ``GuestFault`` when it cannot be read.
  @inline(__always)
  package func number<Number: FixedWidthInteger>(
    _ va: UInt64,
    as _: Number.Type = Number.self
  ) throws -> Number {
    let gpa = try translate(va)
    let offset = Int(gpa & UInt64(Page.byteCount - 1))
    if offset <= Page.byteCount - MemoryLayout<Number>.size {
      guard let page = try ram.page(gpa >> UInt64(Page.shift)) else {
        throw GuestFault.notRAM(gpa)
      }
      return Number(littleEndian: page.loadUnaligned(fromByteOffset: offset, as: Number.self))
    }
    var value = Number.zero
    try withUnsafeMutableBytes(of: &value) { try read(va, into: $0) }
    return Number(littleEndian: value)
  }

  package func u64(_ va: UInt64) throws -> UInt64 { try number(va) }
  package func u32(_ va: UInt64) throws -> UInt32 { try number(va) }
  package func s32(_ va: UInt64) throws -> Int32 { try number(va) }

  /// The bytes of a C string: up to the first 0, or `limit`.
  ///
  /// - Throws: ``GuestFault`` when they cannot be read.
  package func stringBytes(_ va: UInt64, limit: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < limit {
      let address = va &+ UInt64(bytes.count)
      let gpa = try translate(address)
      guard let page = try ram.page(gpa >> UInt64(Page.shift)) else {
        throw GuestFault.notRAM(gpa)
      }
      let start = Int(gpa & UInt64(Page.byteCount - 1))
      let count = min(Page.byteCount - start, limit - bytes.count)
      let part = UnsafeRawBufferPointer(start: page + start, count: count)
      if let end = part.firstIndex(of: 0) {
        bytes.append(contentsOf: part[..<end])
        return bytes
      }
      bytes.append(contentsOf: part)
    }
    return bytes
  }

  /// A C string of at most `limit` bytes, safe to show.
  ///
  /// - Throws: ``GuestFault`` when it cannot be read.
  package func string(_ va: UInt64, limit: Int) throws -> String {
    GuestText.escaped(try stringBytes(va, limit: limit))
  }

  // MARK: User memory

  /// The bytes of a process's memory from `va` on, as far as they are in RAM.
  ///
  /// - Parameter root: The guest-physical address of the process's top page table.
  package func userBytes(root: UInt64, _ va: UInt64, count: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      let (address, overflows) = va.addingReportingOverflow(UInt64(bytes.count))
      guard !overflows, let page = try userPage(root: root, address) else { break }
      let start = Int(address & UInt64(Page.byteCount - 1))
      let length = min(Page.byteCount - start, count - bytes.count)
      bytes.append(contentsOf: UnsafeRawBufferPointer(start: page + start, count: length))
    }
    return bytes
  }

  /// The page that a process has at `va`, if it is in RAM; valid until the next read.
  package func userPage(root: UInt64, _ va: UInt64) throws -> UnsafeRawPointer? {
    try countRead()
    guard va < 1 << 56, let gpa = try pageTables.translate(va, root: root, in: ram) else {
      return nil
    }
    return try ram.page(gpa >> UInt64(Page.shift))
  }
}
