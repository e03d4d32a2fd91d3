import SystemPackage
package import VMCheckpoint

/// A source for tests: a flat RAM file as a dump that leaves pages out.
package struct PartialDump: CaptureSource {
  package let path: String?
  private let absent: AbsentPages

  /// - Parameters:
  ///   - path: The flat RAM file.
  ///   - absent: Runs of PFNs in ascending order. The file has zeros there, unless a test wants an error.
  package init(path: String, absent: [Range<UInt64>]) {
    self.path = path
    var pages = AbsentPages()
    for run in absent { pages.append(run) }
    self.absent = pages
  }

  package var names: CaptureNames {
    CaptureNames(snapshot: "partial", vm: "partial", description: "partial:")
  }

  package func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let path = path!
    let (descriptor, layout) = try FileRAMReader.openFile(path: path) {
      (byteCount) throws(VMCheckpointError) in
      try RAMLayout(contiguousByteCount: byteCount)
    }
    var guest = CapturedGuest(
      layout: layout,
      files: OpenRAMFiles([.init(descriptor: descriptor, path: path)])
    )
    guest.absent = absent
    return try use(guest)
  }
}
