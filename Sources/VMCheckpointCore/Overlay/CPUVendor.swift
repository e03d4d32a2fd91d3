/// Whose processor: what decides which hypercall instruction exists.
public enum CPUVendor: String, Sendable, Codable, CaseIterable {
  /// VMX, with the instruction `vmcall`.
  case intel
  /// SVM, with the instruction `vmmcall`.
  case amd
}
