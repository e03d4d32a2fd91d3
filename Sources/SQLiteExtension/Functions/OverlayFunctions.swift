import CSQLiteExtension
import VMCheckpointCore

/// Functions on overlays and addresses.
extension ScalarFunction {
  static var overlayFunctions: [ScalarFunction] {
    [overlayContents, pfn, gpa, msrOverlay, help]
  }

  private static var overlayContents: ScalarFunction {
    ScalarFunction("overlay_contents") { connection, arguments in
      let name = try arguments[0].text()
      guard let kind = OverlayKind(rawValue: name) else {
        throw SQLError.misuse(
          "overlay_contents: unknown kind \(quotedName(name)); expected one of "
            + rawValues(OverlayKind.self)
        )
      }
      var contents: PageContents?
      if kind.storesContents {
        guard arguments.count == 4 else {
          throw SQLError.misuse(
            "overlay_contents: a \(kind) page is stored; pass contents_chunk_id and contents_slot"
          )
        }
        // A page of zeros is not stored.
        contents =
          arguments[2].isNull || arguments[3].isNull
          ? .zero
          : try connection.page(
            chunkID: try arguments[2].integer(in: 1 ... .max),
            slot: try arguments[3].integer(in: 0...15)
          )
      }
      let overlay = try Overlay(
        kind: kind,
        vp: 0,
        pfn: PFN(unchecked: 0),
        parametersJSON: try arguments[1].text(),
        contents: contents
      )
      return .blob(overlay.contents().bytes)
    }
  }

  private static var pfn: ScalarFunction {
    ScalarFunction("pfn", isDeterministic: true) { _, arguments in
      .integer(Int64(PFN(gpa: try arguments[0].bits()).rawValue))
    }
  }

  private static var gpa: ScalarFunction {
    ScalarFunction("gpa", isDeterministic: true) { _, arguments in
      .integer(Int64(bitPattern: try arguments[0].pfn().gpa))
    }
  }

  private static var msrOverlay: ScalarFunction {
    ScalarFunction("msr_overlay", isDeterministic: true) { _, arguments in
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

  private static var help: ScalarFunction {
    ScalarFunction("vmckpt_help", isDeterministic: true) { _, _ in .text(FunctionHelp.text) }
  }
}
