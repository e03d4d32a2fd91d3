/// A kernel's symbols: its kallsyms, and what kernels whose kallsyms have functions alone say elsewhere.
package final class KernelSymbols {
  package let kallsyms: Kallsyms
  /// Symbols that ``kallsyms`` does not have, or that VMCOREINFO knows too.
  private var additions: [String: UInt64]

  init(_ kallsyms: Kallsyms, additions: [String: UInt64]) {
    self.kallsyms = kallsyms
    self.additions = additions
  }

  /// The virtual address of the first symbol with this name.
  package func address(of name: String) -> UInt64? {
    kallsyms.address(of: name) ?? additions[name]
  }

  func add(_ name: String, _ address: UInt64) { additions[name] = address }

  /// The name of the symbol that begins at `address`.
  package func name(at address: UInt64) -> String? {
    guard let (name, distance) = kallsyms.name(at: address), distance == 0 else { return nil }
    return name
  }
}
