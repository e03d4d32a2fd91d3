import VMCheckpointCore

extension ScalarFunction {
  static var overlayContents: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "overlay_contents",
        ["kind", "parameters"],
        optional: ["contents_chunk_id", "contents_slot"],
        returns: "BLOB",
        "the 4096 bytes of an overlay: derived from kind and parameters, or as stored"
      )
    ) { connection, arguments in
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
          : try connection.reader.page(
            at: PageLocation(
              chunkID: try arguments[2].integer(in: 1...PageLocation.validChunkIDs.upperBound - 1),
              slot: Int(try arguments[3].integer(in: 0...15))
            )
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
}
