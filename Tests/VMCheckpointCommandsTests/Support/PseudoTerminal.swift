import Glibc

/// A terminal that nobody looks at.
final class PseudoTerminal: Sendable {
  struct Failure: Error {}

  private let controller: Int32

  /// For use as a standard descriptor.
  let descriptor: Int32

  // From <asm-generic/ioctls.h>, which Glibc's module leaves out as it does posix_openpt.
  private static let unlock: UInt = 0x4004_5431
  private static let number: UInt = 0x8004_5430

  init() throws {
    controller = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    var isLocked: Int32 = 0
    var number: Int32 = 0
    guard controller >= 0, ioctl(controller, Self.unlock, &isLocked) == 0,
      ioctl(controller, Self.number, &number) == 0
    else { throw Failure() }
    descriptor = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY)
    guard descriptor >= 0 else { throw Failure() }
  }

  deinit {
    close(descriptor)
    close(controller)
  }

  /// Sets the width that the terminal reports.
  func setColumnCount(_ count: UInt16) {
    var size = winsize(ws_row: 24, ws_col: count, ws_xpixel: 0, ws_ypixel: 0)
    _ = ioctl(controller, UInt(TIOCSWINSZ), &size)
  }

  /// What was written to the terminal so far, as it would be sent to a screen.
  func written() -> String {
    // A terminal passes on what it gets piece by piece and in its own time, but in order.
    var end = Array("<end>".utf8)
    _ = write(descriptor, &end, end.count)
    var result: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 4096)
    while !result.suffix(end.count).elementsEqual(end) {
      let count = read(controller, &block, block.count)
      guard count > 0 else { break }
      result += block[..<count]
    }
    return String(decoding: result.dropLast(end.count), as: UTF8.self)
  }
}
