import VMCheckpointCore

extension ScalarFunction {
  static var msrOverlay: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "msr_overlay",
        ["msr", "value"],
        returns: "TEXT",
        "the overlay that a register with this value places, as JSON; NULL for other registers"
      ),
      isDeterministic: true
    ) { _, arguments in
      guard let index = UInt32(exactly: try arguments[0].bits()) else {
        throw SQLError.misuse("msr_overlay: a register's number has at most 32 bits")
      }
      guard let kind = OverlayKind(msrIndex: index) else { return .null }
      let register = OverlayMSR(kind: kind, value: try arguments[1].bits())
      return .text(
        """
        {"kind":"\(kind)","enabled":\(register.isEnabled),"pfn":\(register.pfn.rawValue),\
        "gpa":"\(hexString(register.pfn.gpa))",\
        "msr_bits":"\(hexString(UInt64(register.bits.rawValue)))","locked":\(register.isLocked)}
        """
      )
    }
  }
}
