/// What the kernel says through a userfaultfd, from the 32 bytes of a `struct uffd_msg`.
package enum UserfaultEvent: Hashable, Sendable {
  /// Somebody waits for the page at this address.
  case fault(address: UInt64)
  /// Pages were dropped, or their mapping is gone: what is read there next is zeros.
  case removed(first: UInt64, end: UInt64)
  /// The VMM was forked: the child's own userfaultfd.
  case forked(descriptor: Int32)
  /// A mapping has moved.
  case moved
  /// Nothing that this program knows.
  case other

  package static let byteCount = 32

  /// - Precondition: `message` has 32 bytes.
  package init(_ message: UnsafeRawBufferPointer) {
    func word(_ offset: Int) -> UInt64 {
      message.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }
    switch message[0] {
    case 0x12: self = .fault(address: word(16))
    case 0x13: self = .forked(descriptor: message.loadUnaligned(fromByteOffset: 8, as: Int32.self))
    case 0x14: self = .moved
    case 0x15, 0x16: self = .removed(first: word(8), end: word(16))
    default: self = .other
    }
  }
}
