extension ScalarFunction {
  static var hexdump: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "hexdump",
        ["blob"],
        optional: ["base"],
        returns: "TEXT",
        "the bytes in hexadecimal and ASCII, 16 a line; * stands for lines like the one before"
      ),
      isDeterministic: true
    ) { _, arguments in
      let base = arguments.count > 1 && !arguments[1].isNull ? try arguments[1].bits() : 0
      return try arguments[0].withBytes { bytes in
        guard bytes.count <= HexDump.maximumByteCount else {
          throw SQLError.misuse("hexdump: takes at most \(HexDump.maximumByteCount) bytes")
        }
        return .text(HexDump.text(of: bytes, base: base))
      }
    }
  }
}
