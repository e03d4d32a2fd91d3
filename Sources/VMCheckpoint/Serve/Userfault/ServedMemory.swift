import CLinux
import Glibc
import SystemPackage

/// RAM of a VM whose pages a page server puts in place when they are touched: the VMM's side of
/// ``PageServer/serve(_:storePath:control:)``, as Firecracker has it.
///
/// The memory is private and anonymous, or shared memory such as a memfd; that of a file on a disk cannot be
/// served. Where nothing was touched yet, a thread that touches a page waits for it, in KVM as well. Pages that
/// the VMM drops with `madvise` are zeros from then on.
///
/// Keep this object for as long as the memory is in use: it holds the userfaultfd, and when the last descriptor of that
/// is closed, pages that are missing read as zeros. The server has another one.
public final class ServedMemory: Sendable {
  /// A part of the RAM.
  public struct Part {
    /// Where it is, in whole pages.
    public var memory: UnsafeMutableRawBufferPointer
    /// Where it is in a flat RAM file of the snapshot (``MemoryRegion/fileOffset``).
    public var fileOffset: UInt64

    /// Makes one with these values.
    public init(memory: UnsafeMutableRawBufferPointer, fileOffset: UInt64) {
      self.memory = memory
      self.fileOffset = fileOffset
    }
  }

  private let userfaultfd: Int32
  private let connection: Int32

  /// Hands `parts` over to the server at `socketPath`. Their pages must not have been touched yet.
  ///
  /// - Throws: ``VMCheckpointError``: `permissionDenied` where this user may not use userfaultfd; `notFound` and
  ///   `unavailable` when nobody serves; `inputOutput`.
  public init(_ parts: [Part], socketPath: String) throws(VMCheckpointError) {
    let connection = try UserfaultSocket.connect(to: socketPath)
    let userfaultfd = clinux_userfaultfd()
    do throws(VMCheckpointError) {
      guard userfaultfd >= 0 else { throw Self.refused(Errno(rawValue: errno)) }
      try Self.check(
        clinux_uffd_begin(userfaultfd, clinux_uffd_feature_remove),
        "begin with userfaultfd"
      )
      for part in parts {
        try Self.check(
          clinux_uffd_register(userfaultfd, Self.address(part), UInt64(part.memory.count)),
          "register memory with userfaultfd"
        )
      }
      let message = Array(Self.message(parts).utf8)
      let count = clinux_send_with_fd(connection, message, message.count, userfaultfd)
      try Self.check(count == message.count ? 0 : -1, "hand a userfaultfd over")
    } catch {
      if userfaultfd >= 0 { close(userfaultfd) }
      close(connection)
      throw error
    }
    (self.userfaultfd, self.connection) = (userfaultfd, connection)
  }

  deinit {
    close(userfaultfd)
    close(connection)
  }

  private static func address(_ part: Part) -> UInt64 {
    UInt64(UInt(bitPattern: part.memory.baseAddress))
  }

  private static func message(_ parts: [Part]) -> String {
    let mappings = parts.map { part in
      #"{"base_host_virt_addr":\#(address(part)),"size":\#(part.memory.count),"#
        + #""offset":\#(part.fileOffset),"page_size":\#(Page.byteCount),"#
        + #""page_size_kib":\#(Page.byteCount)}"#
    }
    return "[\(mappings.joined(separator: ","))]"
  }

  private static func check(_ result: Int32, _ attempt: String) throws(VMCheckpointError) {
    guard result != 0 else { return }
    let code = Errno(rawValue: errno)
    throw VMCheckpointError(.inputOutput, "cannot \(attempt): \(code)").orOutOfResources(code)
  }

  private static func refused(_ code: Errno) -> VMCheckpointError {
    guard code == .notPermitted || code == .permissionDenied else {
      return VMCheckpointError(.unavailable, "this kernel has no userfaultfd: \(code)")
        .orOutOfResources(code)
    }
    return VMCheckpointError(
      .permissionDenied,
      "this user may not use userfaultfd: \(code)",
      hint: "let root run: sysctl vm.unprivileged_userfaultfd=1, or give the user /dev/userfaultfd"
    )
  }
}
