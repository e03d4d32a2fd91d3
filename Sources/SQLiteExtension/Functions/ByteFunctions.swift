import CSQLiteExtension
import Crypto

/// Functions on bytes alone.
extension ScalarFunction {
  static var byteFunctions: [ScalarFunction] {
    [hexdump, pageSHA256, lz4FrameDecode]
  }

  private static var hexdump: ScalarFunction {
    ScalarFunction("hexdump", isDeterministic: true) { _, arguments in
      let base = arguments.count > 1 && !arguments[1].isNull ? try arguments[1].bits() : 0
      return try arguments[0].withBytes { bytes in
        guard bytes.count <= HexDump.maximumByteCount else {
          throw SQLError.misuse("hexdump: takes at most \(HexDump.maximumByteCount) bytes")
        }
        return .text(HexDump.text(of: bytes, base: base))
      }
    }
  }

  private static var pageSHA256: ScalarFunction {
    ScalarFunction("page_sha256", isDeterministic: true) { _, arguments in
      try arguments[0].withBytes { .text(PageDigest(of: $0).description) }
    }
  }

  private static var lz4FrameDecode: ScalarFunction {
    ScalarFunction("lz4_frame_decode", isDeterministic: true) { connection, arguments in
      let limit = Int(vmx_length_limit(connection.database))
      return try arguments[0].withBytes { try LZ4FrameReader.decode($0, byteLimit: limit) }
    }
  }
}
