import Foundation
import Glibc

/// RAM to measure on, aligned to a page: a part of an image, or made up.
final class BenchImage {
  static let pageByteCount = 4096
  let bytes: UnsafeMutableRawBufferPointer
  /// What it is, for the table.
  let title: String

  /// The first `byteCount` bytes of the file at `path`, or all.
  init(path: String, byteCount: Int) throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw BenchError("cannot open \(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    let size = Int(lseek(descriptor, 0, SEEK_END))
    let count = min(size, byteCount) & ~(Self.pageByteCount - 1)
    guard count > 0 else { throw BenchError("\(path) has no whole page") }
    bytes = .allocate(byteCount: count, alignment: Self.pageByteCount)
    title = "\(count >> 20) MiB of \((path as NSString).lastPathComponent)"
    var done = 0
    while done < count {
      let result = pread(descriptor, bytes.baseAddress! + done, count - done, off_t(done))
      guard result > 0 else { throw BenchError("cannot read \(path)") }
      done += result
    }
  }

  /// `byteCount` bytes like a guest's: a third zero pages, the others of words from a small range, of
  /// text, and random ones. Always the same.
  init(syntheticByteCount byteCount: Int) {
    let count = max(byteCount & ~(Self.pageByteCount - 1), Self.pageByteCount)
    bytes = .allocate(byteCount: count, alignment: Self.pageByteCount)
    title = "\(count >> 20) MiB, synthetic"
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    var state: UInt64 = 1
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state ^ state &>> 33) &* 0xFF51_AFD7_ED55_8CCD
    }
    let text = Array("the quick brown fox jumps over the lazy dog and runs away from 0x".utf8)
    for start in stride(from: 0, to: count, by: Self.pageByteCount) {
      let page = UnsafeMutableRawBufferPointer(
        rebasing: bytes[start..<(start + Self.pageByteCount)]
      )
      switch next() &>> 32 % 9 {
      case 0...2: break
      case 3:
        for offset in stride(from: 0, to: page.count, by: 8) {
          page.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
        }
      case 4...6:
        // Pointers into one region, and zeros.
        for offset in stride(from: 0, to: page.count, by: 8) where next() &>> 40 % 3 != 0 {
          let pointer = 0xFFFF_8880_0000_0000 | (next() &>> 40) << 4
          page.storeBytes(of: pointer, toByteOffset: offset, as: UInt64.self)
        }
      default:
        for offset in page.indices {
          page[offset] = text[(offset + Int(next() &>> 60 / 12)) % text.count]
        }
      }
    }
  }

  deinit { bytes.deallocate() }
}
