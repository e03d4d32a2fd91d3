/// Says who serves the pages of a snapshot to VMs that run.
///
/// A snapshot with a lease is not deleted. Whoever has the lease holds a lock for it. When that lock is gone
/// the lease goes on to protect the snapshot, since a VM may wait for its pages: until the server is
/// started again, ``Store/dropLease(_:)``, or seven days after a writer has first found the lock free.
public struct Lease: Sendable, Hashable, Codable {
  /// The number that ``Store/dropLease(_:)`` takes.
  public var id: Int64
  /// The snapshot's name.
  public var snapshot: String
  /// How pages are served: `userfaultfd`, `postcopy` or `mount`.
  public var door: String
  /// Where: the path of a socket, or of a mount.
  public var target: String
  /// The program that serves, with its version.
  public var holder: String
  /// When it began, as ISO 8601.
  public var begunAt: String
  /// When a writer first found that nobody holds the lease; `nil` while somebody does.
  public var lostAt: String?
  /// Whether somebody holds the lease now.
  public var isHeld: Bool

  /// The door of a mount.
  static let mountDoor = "mount"

  /// Days for which a lease protects that nobody holds.
  public static let graceDays = 7
}

extension Lease {
  /// For messages, such as `lease 3 (userfaultfd, "/run/vm.sock")`.
  var title: String { "lease \(id) (\(door), \(quotedName(target)))" }

  /// The error for who wants to delete the snapshot.
  var refusal: VMCheckpointError {
    let name = "snapshot \(quotedName(snapshot))"
    return isHeld
      ? VMCheckpointError(
        .locked,
        "\(name) is served by \(title), since \(begunAt)",
        hint: door == Self.mountDoor
          ? "close its files in the mount first, which VMs that run from it have open"
          : "end that server first; see: vmckpt lease list"
      )
      : VMCheckpointError(
        .locked,
        "\(name) was served by \(title), whose server is gone; a VM may still need its pages",
        hint: "start that server again, or give its VMs up with: vmckpt lease drop \(id)"
      )
  }
}
