/// Where a guest's RAM comes from, and what comes with it.
///
/// The library has flat RAM; other formats add their own, in the module VMCheckpointFormats.
public struct RAMInput: Sendable, Hashable {
  package let source: any CaptureSource

  package init(_ source: any CaptureSource) {
    self.source = source
  }

  /// A flat RAM file, read in place with its holes skipped.
  public static func file(path: String) -> RAMInput { RAMInput(FlatFileSource(file: path)) }

  /// A stream that is read once, from its current position to its end. The descriptor stays the
  /// caller's.
  public static func stream(fileDescriptor: Int32, name: String) -> RAMInput {
    RAMInput(FlatStreamSource(fileDescriptor: fileDescriptor, name: name, inspector: nil))
  }

  /// The same, whose first bytes `inspect` may refuse by throwing, before any is stored.
  package static func stream(
    fileDescriptor: Int32,
    name: String,
    inspect: @escaping StreamInspector.Inspect
  ) -> RAMInput {
    RAMInput(
      FlatStreamSource(
        fileDescriptor: fileDescriptor,
        name: name,
        inspector: StreamInspector(inspect: inspect)
      )
    )
  }

  /// Whether both name the same source.
  public static func == (left: RAMInput, right: RAMInput) -> Bool {
    AnyHashable(left.source) == AnyHashable(right.source)
  }

  /// Hashes the source.
  public func hash(into hasher: inout Hasher) { hasher.combine(AnyHashable(source)) }
}
