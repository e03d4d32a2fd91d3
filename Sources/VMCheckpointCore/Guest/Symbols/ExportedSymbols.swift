/// Finds a kernel's exported data where kallsyms has functions alone.
///
/// Filled in by what `__ksymtab` has: for each exported symbol the distances from its own places to the symbol
/// and to the symbol's name.
struct ExportedSymbols {
  private let ram: any GuestRAM
  private let center: UInt64
  private let imageOffset: UInt64

  init(_ ram: any GuestRAM, around center: UInt64, imageOffset: UInt64) {
    self.ram = ram
    self.center = center
    self.imageOffset = imageOffset
  }

  func add(to symbols: KernelSymbols) throws {
  }
}
