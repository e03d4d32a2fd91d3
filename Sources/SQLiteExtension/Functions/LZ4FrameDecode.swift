import CSQLiteExtension

extension ScalarFunction {
  static var lz4FrameDecode: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "lz4_frame_decode",
        ["blob"],
        returns: "BLOB",
        "what one LZ4 frame holds, its checksums found right"
      ),
      isDeterministic: true
    ) { connection, arguments in
      let limit = Int(vmx_length_limit(connection.database))
      return try arguments[0].withBytes {
        try .blob(
          LZ4FrameReader.decode(
            $0,
            byteLimit: limit,
            allowsSkippableFrames: true,
            for: "lz4_frame_decode"
          )
        )
      }
    }
  }
}
