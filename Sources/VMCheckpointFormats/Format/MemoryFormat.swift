package import VMCheckpoint

/// A kind of file, or a VMM, that snapshots come from and go to: one folder each, and one line in
/// ``FormatRegistry``.
package protocol MemoryFormat: Sendable {
  /// The scheme of SOURCE, and the value of `--format`.
  var name: String { get }

  /// One line for people, without a full stop.
  var summary: String { get }

  /// What restores write; `nil`: the format is only read.
  var form: RestoreFormat? { get }

  /// Whether a source says itself where its RAM lies, so that the user must not.
  var describesLayout: Bool { get }

  /// Whether the layout of a QEMU machine needs the RAM's size when SOURCE is standard input.
  var needsRAMSize: Bool { get }

  /// Whether the source is a VM that runs.
  var savesLive: Bool { get }

  /// Whether SOURCE may be standard input.
  var readsStreams: Bool { get }

  /// Whether SOURCE may be a diff, whose holes are another's pages.
  var readsDiffs: Bool { get }

  /// Whether SOURCE is the name of a VM that a program manages, which `--connect` reaches.
  var namesDomain: Bool { get }

  /// Whether a file that begins like this is of the format. Asked only where SOURCE has no scheme.
  func recognizes(_ head: FileHead) -> Bool

  /// Whether a file with this name, or path, is of the format, whose files have nothing else to know them
  /// by. Asked only where SOURCE has no scheme and its first bytes are nobody's.
  func recognizes(fileName: String) -> Bool

  /// Whether the directory at `path` is of the format. Asked only where SOURCE has no scheme.
  func recognizes(directory path: String) -> Bool

  /// What is saved from `source`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  func input(_ source: SourceReference) throws(VMCheckpointError) -> RAMInput
}

extension MemoryFormat {
  package var describesLayout: Bool { false }
  package var needsRAMSize: Bool { false }
  package var savesLive: Bool { false }
  package var readsStreams: Bool { false }
  package var readsDiffs: Bool { false }
  package var namesDomain: Bool { false }
  package func recognizes(_ head: FileHead) -> Bool { false }
  package func recognizes(fileName: String) -> Bool { false }
  package func recognizes(directory path: String) -> Bool { false }
}

/// What SOURCE names, without its scheme.
package struct SourceReference: Sendable {
  /// A place that RAM comes from.
  package enum Place: Hashable, Sendable {
    case path(String)
    case standardInput(fileDescriptor: Int32)
  }

  package var place: Place
  /// Refuses a stream by its first bytes, by throwing; `nil` where SOURCE names the format.
  package var inspectStream: StreamInspector.Inspect?
  /// Whether a VM that is saved live stays stopped.
  package var leavesStopped: Bool
  /// For how long a VM that is saved live may be stopped; `nil`: for as long as it takes.
  package var maximumPauseSeconds: Double?
  /// The command that guards a VM while it is stopped.
  package var guardCommand: [String]
  /// What the holes of a diff are; `nil`: SOURCE is not a diff.
  package var base: DiffBase?
  /// Diffs that are laid over SOURCE, in this order.
  package var diffs: [String]
  /// A file of the VMM's state that is not beside SOURCE.
  package var statePath: String?
  /// The URI of a connection to what manages the VM; `nil`: its default.
  package var connection: String?

  package init(
    place: Place,
    inspectStream: StreamInspector.Inspect? = nil,
    leavesStopped: Bool = false,
    maximumPauseSeconds: Double? = nil,
    guardCommand: [String] = [],
    base: DiffBase? = nil,
    diffs: [String] = [],
    statePath: String? = nil,
    connection: String? = nil
  ) {
    self.place = place
    self.inspectStream = inspectStream
    self.leavesStopped = leavesStopped
    self.maximumPauseSeconds = maximumPauseSeconds
    self.guardCommand = guardCommand
    self.base = base
    self.diffs = diffs
    self.statePath = statePath
    self.connection = connection
  }
}
