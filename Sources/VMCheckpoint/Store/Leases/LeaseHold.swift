import GRDB
import Glibc
package import SystemPackage

/// A lease that this process holds. The lock is that of an open file: it stays as long as any process has
/// the descriptor.
package struct LeaseHold: Sendable {
  package let id: Int64
  /// The lock file with the lease's byte locked. Never closed by this type.
  package let descriptor: FileDescriptor

  package init(id: Int64, descriptor: FileDescriptor) {
    self.id = id
    self.descriptor = descriptor
  }
}

extension Store {
  /// Takes a lease of a snapshot: a lost one for the same door and target, else a new one.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound` when the snapshot is gone; `permissionDenied` when the
  ///   store may not be written; `locked`.
  package func takeLease(
    ofSnapshot uuid: String,
    door: String,
    target: String
  ) throws(VMCheckpointError) -> LeaseHold {
    try requireWritable()
    let descriptor = try LeaseLock.open(at: location, .exclusive)
    do throws(VMCheckpointError) {
      return try takeLease(ofSnapshot: uuid, door: door, target: target, on: descriptor)
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  /// As ``takeLease(ofSnapshot:door:target:)``, with its lock on a lock file that is open already, and may have
  /// the locks of other leases.
  package func takeLease(
    ofSnapshot uuid: String,
    door: String,
    target: String,
    on descriptor: FileDescriptor
  ) throws(VMCheckpointError) -> LeaseHold {
    var newID: Int64?
    let id: Int64
    do throws(VMCheckpointError) {
      id = try writeOnFullDisk { database in
        let snapshot = try SnapshotCatalog.resolve(try SnapshotReference(uuid), in: database)
        try StoreFormat.add(.leases, database)
        let lost = try Int64.fetchAll(
          database,
          sql: "SELECT id FROM lease WHERE snapshot_id = ? AND door = ? AND target = ?",
          arguments: [snapshot.id, door, target]
        )
        for id in lost where try LeaseLock.take(id, descriptor) {
          try database.execute(sql: "UPDATE lease SET lost_at = NULL WHERE id = ?", arguments: [id])
          return id
        }
        try database.execute(
          sql: """
            INSERT INTO lease (snapshot_id, door, target, holder, begun_at) VALUES (?, ?, ?, ?, ?)
            """,
          arguments: [snapshot.id, door, target, VMCheckpointVersion.producer, UTCTime.now]
        )
        let id = database.lastInsertedRowID
        // Before the row is there for others.
        guard try LeaseLock.take(id, descriptor) else {
          throw VMCheckpointError(.locked, "lease \(id) is locked by another program")
        }
        newID = id
        return id
      }
    } catch {
      // The number did not come into the store, and is given again.
      if let newID { LeaseLock.drop(newID, descriptor) }
      throw error
    }
    return LeaseHold(id: id, descriptor: descriptor)
  }

  /// Gives a lease back. The row goes first, so that nobody finds it lost.
  ///
  /// - Parameter keepingLockFile: Whether the lock file stays open, and only this lease's lock goes.
  package func giveBack(
    _ lease: LeaseHold,
    keepingLockFile: Bool = false
  ) throws(VMCheckpointError) {
    defer { if !keepingLockFile { try? lease.descriptor.close() } }
    try writeOnFullDisk { database in
      try database.execute(sql: "DELETE FROM lease WHERE id = ?", arguments: [lease.id])
    }
    if keepingLockFile { LeaseLock.drop(lease.id, lease.descriptor) }
  }

  /// Removes leases of a door and target that nobody else holds.
  package func removeLeases(
    door: String,
    target: String,
    except kept: Set<Int64>,
    _ descriptor: FileDescriptor
  ) throws(VMCheckpointError) {
    func found(_ database: Database) throws -> [Lease] {
      try LeaseTable(database, location).all().filter {
        $0.door == door && $0.target == target && !kept.contains($0.id)
      }
    }
    // Mostly there are none, and nothing is to be written then.
    guard try !read(found).isEmpty else { return }
    try writeOnFullDisk { database in
      for lease in try found(database) where try LeaseLock.take(lease.id, descriptor) {
        try database.execute(sql: "DELETE FROM lease WHERE id = ?", arguments: [lease.id])
        LeaseLock.drop(lease.id, descriptor)
      }
    }
  }
}
