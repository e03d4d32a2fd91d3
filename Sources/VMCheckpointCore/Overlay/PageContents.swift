import Glibc

/// The 4096 bytes of one page.
public struct PageContents: Hashable, Sendable {
  /// Exactly 4096.
  public let bytes: [UInt8]

  /// Fails unless `bytes` has exactly 4096 elements.
  public init?(_ bytes: [UInt8]) {
    guard bytes.count == Page.byteCount else { return nil }
    self.bytes = bytes
  }

  /// Copies `buffer`. Fails unless it has exactly 4096 bytes.
  public init?(copying buffer: UnsafeRawBufferPointer) {
    self.init(Array(buffer))
  }

  /// `prefix`, and `fill` in the rest of the page.
  ///
  /// - Precondition: `prefix` has at most 4096 elements.
  package init(prefix: [UInt8], fill: UInt8 = 0) {
    precondition(prefix.count <= Page.byteCount)
    self.bytes = prefix + Array(repeating: fill, count: Page.byteCount - prefix.count)
  }

  /// A page of zeros.
  public static let zero = PageContents(prefix: [])

  /// Whether every byte is 0.
  public var isZero: Bool { self == .zero }

  /// Calls `body` with the 4096 bytes. The buffer is valid for the call only.
  public func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try bytes.withUnsafeBufferPointer { buffer throws(Failure) in
      try body(UnsafeRawBufferPointer(buffer))
    }
  }

  /// The bytes in base64 with padding: 5464 characters.
  public var base64: String { Base64.encode(bytes) }
}

extension PageContents {
  /// Whether all bytes are equal.
  public static func == (lhs: Self, rhs: Self) -> Bool {
    lhs.withUnsafeBytes { left in
      rhs.withUnsafeBytes { right in
        memcmp(left.baseAddress!, right.baseAddress!, Page.byteCount) == 0
      }
    }
  }

  /// Feeds the bytes to `hasher`.
  public func hash(into hasher: inout Hasher) {
    withUnsafeBytes { hasher.combine(bytes: $0) }
  }
}

extension PageContents: CustomStringConvertible {
  /// Never the bytes: they are a guest's memory.
  public var description: String { isZero ? "zero page" : "page" }
}

extension PageContents: CustomDebugStringConvertible {
  /// Never the bytes.
  public var debugDescription: String { description }
}

extension PageContents: CustomReflectable {
  /// Hides the bytes from `dump`.
  public var customMirror: Mirror { Mirror(self, children: []) }
}
