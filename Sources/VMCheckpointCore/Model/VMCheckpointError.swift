/// The one error of the library: what kind, what happened where, and what to do next.
///
/// Messages are one line, name the file, snapshot or PFN, and never hold a guest's memory.
public struct VMCheckpointError: Error, Sendable, Hashable {
  /// What kind of failure; the commands turn it into an exit code.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    private enum Value: String {
      case invalidArgument = "invalid-argument"
      case invalidData = "invalid-data"
      case corrupt
      case notFound = "not-found"
      case unavailable
      case cannotCreate = "cannot-create"
      case inputOutput = "input-output"
      case locked
      case outOfResources = "out-of-resources"
      case permissionDenied = "permission-denied"
      case cancelled
    }

    private let value: Value

    /// The caller asked for something that makes no sense: a bad name, options that exclude
    /// each other.
    public static let invalidArgument = Code(value: .invalidArgument)
    /// Input that does not follow its format or the overlay rules.
    public static let invalidData = Code(value: .invalidData)
    /// Stored data that is damaged.
    public static let corrupt = Code(value: .corrupt)
    /// No such file, store or snapshot.
    public static let notFound = Code(value: .notFound)
    /// A service that is needed is missing.
    public static let unavailable = Code(value: .unavailable)
    /// The output exists, or cannot be created.
    public static let cannotCreate = Code(value: .cannotCreate)
    /// Reading or writing failed: a full disk, a broken device, a source that shrank.
    public static let inputOutput = Code(value: .inputOutput)
    /// The process or the system has no memory, thread or file descriptor left.
    public static let outOfResources = Code(value: .outOfResources)
    /// Somebody else holds the store; trying again later may work.
    public static let locked = Code(value: .locked)
    /// The operating system refuses access.
    public static let permissionDenied = Code(value: .permissionDenied)
    /// The caller cancelled the operation.
    public static let cancelled = Code(value: .cancelled)

    /// The stable name that JSON errors contain, such as `not-found`.
    public var description: String { value.rawValue }
  }

  /// What kind of failure it is.
  public var code: Code

  /// One line: what happened, and where.
  public var message: String

  /// One line: what to do next, where there is something to do.
  public var hint: String?

  /// Makes one with these values.
  public init(_ code: Code, _ message: String, hint: String? = nil) {
    self.code = code
    self.message = message
    self.hint = hint
  }

  package static func invalidData(_ message: String, hint: String? = nil) -> Self {
    Self(.invalidData, message, hint: hint)
  }
}

extension VMCheckpointError: CustomStringConvertible {
  /// Message and hint on one line.
  public var description: String {
    hint.map { "\(message); \($0)" } ?? message
  }
}
