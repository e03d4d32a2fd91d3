/// What is known of a guest's system: all of it when its kernel was found, and otherwise what the kernel says to
/// crash dumps.
package struct GuestFacts {
  package var release: String?
  package var version: String?
  package var machine: String?
  package var hostName: String?
  package var commandLine: String?
  /// Seconds from 1970 to the guest's boot, by the guest's clock.
  package var bootSeconds: Int64?
  /// By how many bytes the kernel's virtual addresses were moved at boot; 0 without KASLR.
  package var kaslrOffset: UInt64?
  /// What the kernel's variable of this name has: where the image is, for x86-64.
  package var physicalBase: UInt64?
  /// The SHA-256 of the type information, which is that of /sys/kernel/btf/vmlinux, in hexadecimal.
  package var typesSHA256: String?
  /// What keeps the other tables from being read.
  package var missing: String?
  package var note: String?
}

extension GuestSystem {
  /// - Parameter ram: The RAM that the system was found in.
  package func facts(_ ram: any GuestRAM) throws -> GuestFacts {
    var facts = GuestFacts()
    facts.missing = missing
    if let kernel {
      kernel.begin()
      try kernel.fill(&facts)
      facts.note = kernel.takeNotes()
    } else {
      if let info { try fill(&facts, info, ram) }
      facts.release = facts.release ?? marks?.names?.release
      facts.version = facts.version ?? marks?.names?.version
      facts.machine = facts.machine ?? marks?.names?.machine
      if facts.hostName == nil, let names = marks?.names {
        if names.areInitial {
          facts.hostName = names.host
        } else {
          facts.note = "the host name: those in RAM may be containers'"
        }
      }
    }
    return facts
  }

  private static let nameByteCount = 65

  /// Without type information: by the places that VMCOREINFO gives.
  private func fill(_ facts: inout GuestFacts, _ info: VMCoreInfo, _ ram: any GuestRAM) throws {
    facts.release = info.release
    facts.kaslrOffset = info.kernelOffset
    facts.physicalBase = info.number("phys_base")
    let imageOffset =
      info.number("phys_base").map { 0xffff_ffff_8000_0000 &- $0 } ?? info.number("kimage_voffset")
    guard let names = info.symbols["init_uts_ns"], let imageOffset,
      let offset = info.offsets["uts_namespace.name"], (0..<4096).contains(offset),
      let bytes = try ram.bytes(
        names &- imageOffset &+ UInt64(offset),
        count: 6 * Self.nameByteCount
      )
    else { return }
    func name(_ index: Int) -> String {
      let start = index * Self.nameByteCount
      return GuestText.escaped(bytes[start..<(start + Self.nameByteCount)].prefix { $0 != 0 })
    }
    guard name(2) == info.release else { return }
    facts.hostName = name(1)
    facts.version = name(3)
    facts.machine = name(4)
  }
}

extension GuestKernel {
  /// Where x86-64's image is without KASLR.
  private static let defaultStart: UInt64 = 0xffff_ffff_8100_0000

  fileprivate func fill(_ facts: inout GuestFacts) throws {
    facts.release = release.isEmpty ? nil : release
    if release.isEmpty { note("the release: it is empty") }
    facts.typesSHA256 = types.sha256
    if pageTables.architecture == .x86 {
      facts.physicalBase = 0xffff_ffff_8000_0000 &- imageOffset
      if let start = symbols.address(of: "_text") ?? symbols.address(of: "_stext") {
        facts.kaslrOffset = start &- Self.defaultStart
      }
    } else {
      facts.kaslrOffset = try info()?.kernelOffset
    }
    try attempt("names") {
      let names = try address(symbol("init_uts_ns"), "uts_namespace", "name")
      facts.hostName = try text(names, "new_utsname", "nodename")
      facts.version = try text(names, "new_utsname", "version")
      facts.machine = try text(names, "new_utsname", "machine")
    }
    try attempt("the command line") {
      guard let line = symbols.address(of: "saved_command_line") else { return }
      facts.commandLine = try string(u64(line), limit: 4096)
    }
    try attempt("the time of boot") { facts.bootSeconds = try bootSeconds() }
  }

  private func bootSeconds() throws -> Int64? {
    // From 6.18 on the first of several.
    guard
      let core = symbols.address(of: "tk_core") ?? symbols.address(of: "timekeeper_data")
    else { return nil }
    // From 6.13 on a type with a name; before, a lock comes before the timekeeper.
    let lock = types.byteCount(of: "seqcount_raw_spinlock") ?? 8
    let keeper =
      core &+ UInt64(types.field("tk_data", "timekeeper")?.offset ?? max(8, (lock + 7) / 8 * 8))
    let real = try s64(keeper, "timekeeper", "offs_real")
    let boot = try s64(keeper, "timekeeper", "offs_boot")
    let (nanoseconds, overflows) = real.subtractingReportingOverflow(boot)
    guard !overflows, nanoseconds > 0 else { return nil }
    return nanoseconds / 1_000_000_000
  }
}
