import GRDB

/// What a guest was doing, read from its own kernel's memory.
///
/// Nothing of it is to be trusted: a guest can lie.
package struct GuestView<Content> {
  /// The snapshot's name.
  package var snapshot: String
  /// The release of the guest's kernel, as `uname -r` has it.
  package var release: String
  /// When the guest booted, in seconds since 1970 by its own clock; `nil` when that is not known.
  package var bootSeconds: Int64?
  package var content: Content
  /// What is wrong with the whole, as a torn list; ``content`` has notes of its own.
  package var note: String?
}

extension Store {
  /// The processes of a snapshot's guest, by ascending PID.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound` for the snapshot, or when no kernel that can be read is in its RAM;
  ///   `corrupt`, `locked`, `cancelled`.
  /// - Complexity: O(*n*) in the stored pages, to find the kernel.
  package func guestProcesses(
    of reference: SnapshotReference,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> GuestView<[GuestProcess]> {
    try view(reference, control) { kernel in try kernel.processes() }
  }

  /// The threads of a snapshot's guest, by ascending number.
  ///
  /// - Throws: As ``guestProcesses(of:control:)``.
  package func guestThreads(
    of reference: SnapshotReference,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> GuestView<[GuestProcess]> {
    try view(reference, control) { kernel in try kernel.threads() }
  }

  /// The log of a snapshot's guest's kernel, the oldest record first.
  ///
  /// - Throws: As ``guestProcesses(of:control:)``.
  package func guestLog(
    of reference: SnapshotReference,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> GuestView<[GuestLogRecord]> {
    try view(reference, control) { kernel in try kernel.logRecords() }
  }

  private func view<Content>(
    _ reference: SnapshotReference,
    _ control: OperationControl,
    _ read: (GuestKernel) throws -> Content
  ) throws(VMCheckpointError) -> GuestView<Content> {
    try withKernel(of: reference, control) { (_, snapshot, kernel) in
      let facts = try GuestSystem(kernel: kernel).facts(kernel.ram)
      kernel.begin()
      let content = try read(kernel)
      return GuestView(
        snapshot: snapshot.name,
        release: kernel.release,
        bootSeconds: facts.bootSeconds,
        content: content,
        note: kernel.takeNotes()
      )
    }
  }

  /// Runs `body` with the kernel of a snapshot's guest, a query begun, in one read transaction: a snapshot that
  /// somebody deletes meanwhile stays whole until `body` has ended. A store that cannot be written is enough.
  ///
  /// - Throws: As ``guestProcesses(of:control:)``; a ``GuestFault`` of `body` as what keeps the guest from being
  ///   read.
  func withKernel<Result>(
    of reference: SnapshotReference,
    _ control: OperationControl,
    _ body: (Database, SnapshotRow, GuestKernel) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    try readInterruptibly(control: control) { database in
      let snapshot = try SnapshotCatalog.resolve(reference, in: database)
      let ram = try StoredGuestRAM(StoreReader(database), snapshot.stored)
      let system = try GuestSystem.find(in: ram, known: .standard)
      guard let kernel = system.kernel else {
        throw Self.unreadable(snapshot, system.missing ?? "no kernel was found")
      }
      kernel.begin()
      do {
        return try body(database, snapshot, kernel)
      } catch let fault as GuestFault {
        throw Self.unreadable(snapshot, "\(fault)")
      }
    }
  }

  private static func unreadable(_ snapshot: SnapshotRow, _ reason: String) -> VMCheckpointError {
    VMCheckpointError(
      .notFound,
      "\(snapshot.title): \(reason)",
      hint: "vmckpt sql shows what is known all the same: SELECT * FROM guest_os(:snapshot)"
    )
  }
}
