import CSQLiteExtension
import VMCheckpointCore

extension ScalarFunction {
  static var guestRead: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "guest_read",
        ["snapshot", "pid", "va", "length"],
        returns: "BLOB",
        "memory as a process sees it, or with pid 0 the kernel; NULL where any of it is not in RAM"
      )
    ) { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let pid = try arguments[1].integer(in: 0...Int64(Int32.max))
      let va = try arguments[2].bits()
      let limit = Int64(vmx_length_limit(connection.database))
      let length = try arguments[3].integer(in: 0...limit)
      let guest = try connection.guests.guest(snapshot)
      let kernel = try connection.guests.kernel(of: guest, snapshot)
      let root: UInt64?
      do {
        root = pid == 0 ? nil : try guest.pageTableRoot(ofProcess: pid, kernel)
      } catch let fault as GuestFault {
        throw SQLError.misuse("guest_read: \(snapshot.title): \(fault)")
      }
      guard pid == 0 || root != nil else { return .null }
      guard length > 0 else { return .blob([]) }
      guard let memory = vmx_malloc(length) else {
        throw SQLError(code: SQLITE_NOMEM, message: "out of memory")
      }
      do {
        let destination = UnsafeMutableRawBufferPointer(start: memory, count: Int(length))
        if try kernel.readMemory(root: root, va, into: destination) {
          return .ownedBlob(memory, byteCount: Int(length))
        }
        vmx_free(memory)
        return .null
      } catch {
        vmx_free(memory)
        throw error
      }
    }
  }
}
