import VMCheckpoint

// The `swift` blocks of the articles and of the READMEs, line for line, so that the compiler reads what
// users copy. ``ArticleSampleTests`` fails for a block that is not here.

/// The article VMCheckpoint.
func saveAndRestore(overlaysJSON: String) throws {
  let overlays = try OverlayDocument(json: Array(overlaysJSON.utf8))
  let saved = try Store.save(
    SaveRequest(input: .file(path: "guest.ram"), vm: "web", overlays: overlays),
    toStoreAt: "vmckpt.db"
  )

  let store = try Store.open(at: "vmckpt.db")
  _ = try store.restore(
    RestoreRequest(
      reference: SnapshotReference(saved.name),
      output: .file(path: "restored.ram")
    )
  )
}

/// The article UsingTheLibrary: reading pages at random.
func readPages(buffer: UnsafeMutableRawBufferPointer) throws {
  let reader = try SnapshotReader(storePath: "vms.db", reference: SnapshotReference("web/1"))
  let page = PFN(gpa: 0x10_0000)
  if reader.content(at: page).content == .data {
    try reader.read(from: page, into: buffer)  // as many pages as it has room for
  }
}

/// The article UsingTheLibrary: the guest has written `value` to the register.
func followHypercallRegister(
  _ value: UInt64,
  hypercall: inout HypercallRegisters,
  overlays: OverlayManager<some GuestMemory>
) throws {
  var registers = hypercall  // HypercallRegisters
  registers.writeHypercall(value)
  try overlays.registerChanged(
    from: hypercall.hypercall,
    to: registers.hypercall,
    parameters: .hypercall(.returnNotSupported)
  )
  hypercall = registers
}
