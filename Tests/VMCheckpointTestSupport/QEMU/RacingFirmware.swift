/// What a machine of QEMU's runs in place of a BIOS: a program that writes to RAM without pause, and in an order
/// that shows whether an image of RAM is of one instant, to the instruction.
///
/// Round after round it writes the round's number to the first and the last word of 128 pages, in order. At any
/// instant the words, in that order, are some of one round, followed by the rest of the round before.
package enum RacingFirmware {
  private static let firstPage = 0x10
  /// Where the first word is.
  package static let firstAddress = firstPage * 4096
  private static let pageCount = 128

  /// The image, for `-bios`: 64 KiB, of which the last 16 bytes are what a CPU begins with.
  package static var image: [UInt8] {
    let code: [UInt8] = [
      0xfa,  // cli
      0x66, 0x31, 0xc0,  // xor eax, eax
      0x66, 0x40,  // round: inc eax
      0xbb, 0x00, 0x10,  // mov bx, 0x1000
      0x8e, 0xc3,  // page: mov es, bx
      0x26, 0x66, 0xa3, 0x00, 0x00,  // mov [es:0], eax
      0x26, 0x66, 0xa3, 0xfc, 0x0f,  // mov [es:0xffc], eax
      0x81, 0xc3, 0x00, 0x01,  // add bx, 0x100
      0x81, 0xfb, 0x00, 0x90,  // cmp bx, 0x9000
      0x72, 0xea,  // jb page
      0xeb, 0xe3,  // jmp round
    ]
    var image = [UInt8](repeating: 0, count: 64 << 10)
    image.replaceSubrange(0..<code.count, with: code)
    // jmp 0xf000:0
    image.replaceSubrange(0xfff0..<0xfff5, with: [0xea, 0x00, 0x00, 0x00, 0xf0])
    return image
  }

  /// The words that the program writes, in its order.
  package static func words(of ram: [UInt8]) -> [UInt32] {
    (firstPage..<(firstPage + pageCount)).flatMap { page in
      [page * 4096, page * 4096 + 4092].map { offset in
        ram[offset..<(offset + 4)].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      }
    }
  }

  /// Whether an image of RAM, in which the program has run for a round at least, is of one instant.
  package static func isOfOneInstant(_ ram: [UInt8]) -> Bool {
    let words = words(of: ram)
    guard let first = words.first, let last = words.last, last > 0 else { return false }
    let firstOld = words.firstIndex { $0 != first } ?? words.count
    return first - last <= 1 && words[firstOld...].allSatisfy { $0 == first - 1 }
  }
}
