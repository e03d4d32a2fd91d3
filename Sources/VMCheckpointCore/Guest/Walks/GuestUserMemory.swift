/// Memory as a process of the guest sees it.
extension GuestKernel {
  /// The guest-physical addresses of all processes' top page tables, by PID.
  package func processRoots() throws -> [Int64: UInt64] {
    var roots: [Int64: UInt64] = [:]
    for leader in try processLeaders() {
      do {
        let mm = try u64(leader, "task_struct", "mm")
        guard mm != 0 else { continue }
        roots[try s64(leader, "task_struct", "pid")] = try pageTableRoot(ofMemory: mm)
      } catch let fault as GuestFault {
        note("task \(hexString(leader)): \(fault)")
      }
    }
    return roots
  }

  /// Fills `destination` with the bytes at a virtual address of a process, or of the kernel.
  ///
  /// - Parameter root: The process's top page table; `nil` for the kernel.
  /// - Returns: Whether all of them are in RAM.
  package func readMemory(
    root: UInt64?,
    _ va: UInt64,
    into destination: UnsafeMutableRawBufferPointer
  ) throws -> Bool {
    guard let root, va < 1 << 56 else {
      do {
        try read(va, into: destination)
        return true
      } catch is GuestFault {
        return false
      }
    }
    var offset = 0
    while offset < destination.count {
      let (address, overflows) = va.addingReportingOverflow(UInt64(offset))
      guard !overflows, let page = try userPage(root: root, address) else { return false }
      let start = Int(address & UInt64(Page.byteCount - 1))
      let count = min(Page.byteCount - start, destination.count - offset)
      (destination.baseAddress! + offset).copyMemory(from: page + start, byteCount: count)
      offset += count
    }
    return true
  }
}
