/// What is wrong with an object in a guest's kernel memory. It costs the object's row and is noted there; it
/// never ends a query.
package enum GuestFault: Error, Hashable, CustomStringConvertible {
  /// The guest-physical address is not RAM, or the dump left it out.
  case notRAM(UInt64)
  /// The guest's page tables do not map the virtual address.
  case notMapped(UInt64)
  /// The virtual address cannot be the kernel's.
  case notKernel(UInt64)
  /// This kernel's types have no such member, as `type.member`.
  case noMember(String)
  /// This kernel has no such symbol.
  case noSymbol(String)
  /// Any other reason, as a sentence without a full stop.
  case broken(String)

  package var description: String {
    switch self {
    case .notRAM(let gpa): "GPA \(hexString(gpa)) is not RAM, or absent"
    case .notMapped(let va): "virtual address \(hexString(va)) is not mapped"
    case .notKernel(let va): "\(hexString(va)) is not a kernel address"
    case .noMember(let name): "this kernel has no \(name)"
    case .noSymbol(let name): "this kernel has no symbol \(name)"
    case .broken(let reason): reason
    }
  }
}
