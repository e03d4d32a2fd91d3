/// Reads an ELF core of the 64-bit class byte by byte, as slowly as it is plain.
///
/// Loads that overlap must agree: then it does not matter which one counts.
package struct ELFModel {
  /// Each page that a load has a byte of. What no load has in the file is zero.
  package private(set) var pages: [UInt64: [UInt8]] = [:]
  /// The pages of which the file has a byte.
  package private(set) var pagesInFile: Set<UInt64> = []
  package private(set) var notes: [UInt8] = []
  /// Of each load: address, size in the file, size in memory.
  package private(set) var loads: [(gpa: UInt64, fileByteCount: UInt64, memoryByteCount: UInt64)] =
    []

  package init(_ file: [UInt8]) {
    func number(_ offset: Int, _ byteCount: Int) -> UInt64 {
      (0..<byteCount).reduce(0) { $0 | UInt64(file[offset + $1]) << UInt64(8 * $1) }
    }
    let table = Int(number(32, 8))
    let count = number(56, 2) == 0xffff ? number(Int(number(40, 8)) + 44, 4) : number(56, 2)
    for index in 0..<Int(count) {
      let header = table + index * Int(number(54, 2))
      let start = Int(number(header + 8, 8))
      let gpa = number(header + 24, 8)
      let (inFile, inMemory) = (number(header + 32, 8), number(header + 40, 8))
      switch number(header, 4) {
      case 4: notes += file[start..<(start + Int(inFile))]
      case 1:
        loads.append((gpa, inFile, inMemory))
        for byte in 0..<inMemory {
          let address = gpa + byte
          if pages[address / 4096] == nil {
            pages[address / 4096] = [UInt8](repeating: 0, count: 4096)
          }
          if byte < inFile {
            pagesInFile.insert(address / 4096)
            pages[address / 4096]![Int(address % 4096)] = file[start + Int(byte)]
          }
        }
      default: break
      }
    }
  }
}
