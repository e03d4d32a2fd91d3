/// What a restore or a conversion writes: the writing half of a format.
///
/// It is asked twice: once for what it needs of the guest beside RAM, which of a stored snapshot is in the
/// transaction that reads all rows, and then to write.
package protocol RestorationForm: Sendable {
  /// The value of `--format`.
  var name: String { get }

  /// Whether RAM can show overlays, and be made for another host. Where it cannot, it is bare: the VMM
  /// lays its overlays over it itself.
  var showsOverlays: Bool { get }

  /// Whether a directory is made, and not a file.
  var isDirectory: Bool { get }

  /// Checks that the form can hold what is asked for.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  func check(_ target: RestoreTarget) throws(VMCheckpointError)

  /// Whether what is written has this device state of the guest, whole.
  func keeps(_ state: DeviceState) -> Bool

  /// Reads what the form needs of a guest beside RAM.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when the guest cannot take this form, `corrupt`
  ///   when what is stored does not fit together; or `DatabaseError`.
  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter
}

extension RestorationForm {
  package var showsOverlays: Bool { true }
  package var isDirectory: Bool { false }
  package func check(_ target: RestoreTarget) throws(VMCheckpointError) {}
  package func keeps(_ state: DeviceState) -> Bool { false }
}

/// Writes one guest.
package protocol RestorationWriter: Sendable {
  /// Whether the VMM lays `overlay` over RAM itself when it takes what is written, from what is written beside
  /// RAM. RAM is bare there.
  func leavesToVMM(_ overlay: Overlay) -> Bool

  /// Writes all of it, and puts it in its place.
  ///
  /// - Returns: How many bytes there are, those in holes counted.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`. Files are as they were then; of a stream, part
  ///   may be written.
  func write(_ restore: Restoration) throws -> UInt64
}

extension RestorationWriter {
  package func leavesToVMM(_ overlay: Overlay) -> Bool { false }
}

/// The form of what a restore writes.
public struct RestoreFormat: Sendable, Hashable {
  package let form: any RestorationForm

  package init(_ form: any RestorationForm) {
    self.form = form
  }

  /// A flat RAM file, or stream.
  public static let raw = RestoreFormat(FlatForm())

  /// What the command line calls it.
  public var name: String { form.name }

  /// Whether both have the same name.
  public static func == (left: RestoreFormat, right: RestoreFormat) -> Bool {
    left.name == right.name
  }

  /// Hashes the name.
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// A flat RAM file.
struct FlatForm: RestorationForm {
  let name = "raw"

  func plan(_ guest: any RestorableGuest) -> any RestorationWriter {
    RestoredForm(flat: guest.layout)
  }
}

extension RestoredForm: RestorationWriter {
  package func write(_ restore: Restoration) throws -> UInt64 {
    try restore.write(self)
    return byteCount
  }
}
