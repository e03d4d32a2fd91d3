internal import Synchronization
public import VMCheckpoint

/// Guest memory that fails when it is told to and remembers what was done to it.
public final class FailingGuestMemory: GuestMemory {
  /// The error that it throws.
  public struct Failure: Error, Equatable {}

  /// A call of the manager's.
  public struct Access: Equatable, Sendable {
    /// The page.
    public var pfn: PFN
    /// Whether it was written and not read.
    public var isWrite: Bool
    /// Whether the call failed.
    public var failed: Bool
  }

  /// Which accesses fail, counted from the next one.
  public enum FailureMode: Sendable {
    /// Only the one after so many.
    case once(after: Int)
    /// All after so many.
    case always(after: Int)
  }

  private struct State {
    var pages: [PFN: PageContents]
    var accesses: [Access] = []
    var mode: FailureMode?
  }

  private let state: Mutex<State>

  /// RAM with a page for each key.
  public init(pages: [PFN: PageContents]) {
    state = Mutex(State(pages: pages))
  }

  /// Runs `body` with failures as `mode` says, and none afterwards.
  ///
  /// - Returns: What was accessed in `body`.
  public func recordingAccesses(
    failing mode: FailureMode? = nil,
    _ body: () throws -> Void
  ) -> (accesses: [Access], error: (any Error)?) {
    state.withLock { state in
      state.accesses = []
      state.mode = mode
    }
    var caught: (any Error)?
    do { try body() } catch { caught = error }
    return state.withLock { state in
      state.mode = nil
      return (state.accesses, caught)
    }
  }

  /// What the guest sees or writes at a page of RAM.
  public subscript(pfn: PFN) -> PageContents {
    get { state.withLock { $0.pages[pfn]! } }
    set { state.withLock { $0.pages[pfn] = newValue } }
  }

  /// Whether the memory was made with a page at `pfn`.
  public func contains(_ pfn: PFN) -> Bool {
    state.withLock { $0.pages[pfn] != nil }
  }

  /// Reads the page, or throws ``Failure``.
  public func readPage(at pfn: PFN, into buffer: UnsafeMutableRawBufferPointer) throws {
    precondition(buffer.count == Page.byteCount)
    let page = try state.withLock { state in
      try Self.access(pfn, isWrite: false, &state)
      return state.pages[pfn]!
    }
    page.withUnsafeBytes { buffer.copyMemory(from: $0) }
  }

  /// Writes the page, or throws ``Failure`` and leaves it.
  public func writePage(at pfn: PFN, from buffer: UnsafeRawBufferPointer) throws {
    let page = PageContents(copying: buffer)!
    try state.withLock { state in
      try Self.access(pfn, isWrite: true, &state)
      precondition(state.pages.updateValue(page, forKey: pfn) != nil, "wrote outside RAM")
    }
  }

  private static func access(_ pfn: PFN, isWrite: Bool, _ state: inout State) throws(Failure) {
    let count = state.accesses.count
    let fails =
      switch state.mode {
      case .once(let after): count == after
      case .always(let after): count >= after
      case nil: false
      }
    state.accesses.append(Access(pfn: pfn, isWrite: isWrite, failed: fails))
    if fails { throw Failure() }
  }
}
