/// Computes the digest of a snapshot's RAM: the SHA-256 over all pages that are not zero, in
/// ascending order of PFN, of the PFN as eight little-endian bytes and the page's SHA-256.
package struct RAMDigester {
  private static let entryByteCount = 8 + PageDigest.byteCount

  private var hasher = SHA256Hasher()
  private var buffer = [UInt8](repeating: 0, count: 256 * Self.entryByteCount)
  private var entryCount = 0

  package init() {}

  /// Adds a page that is not zero; PFNs must ascend.
  package mutating func add(pfn: UInt64, digest: PageDigest) {
    let offset = entryCount * Self.entryByteCount
    buffer.withUnsafeMutableBytes { bytes in
      let entry = bytes.baseAddress! + offset
      entry.storeBytes(of: pfn.littleEndian, as: UInt64.self)
      digest.store(to: entry + 8)
    }
    entryCount += 1
    if entryCount == 256 { flush() }
  }

  /// The digest's 32 bytes.
  package mutating func finalize() -> [UInt8] {
    flush()
    return hasher.finalize()
  }

  private mutating func flush() {
    buffer.withUnsafeBytes { bytes in
      hasher.update(
        UnsafeRawBufferPointer(rebasing: bytes[..<(entryCount * Self.entryByteCount)])
      )
    }
    entryCount = 0
  }
}

/// Computes the digest of a snapshot: what it holds, whatever it is called and however it is
/// stored.
///
/// It is the SHA-256 of a text of one line for each thing, each ending in a newline:
/// ```
/// vmckpt snapshot 1
/// region GPA BYTES FILE_OFFSET NAME
/// ram SHA256
/// absent FIRST_PFN PAGES
/// guest-os-id 0x…
/// cpu-vendor intel
/// tsc-frequency HZ
/// overlay PFN KIND VP BAKED PARAMETERS SHA256
/// device SHA256 BYTES VERSION FORMAT NAME
/// ```
/// Regions are in order of GPA, overlays of PFN, priority and VP, device states in their own
/// order. Numbers are decimal. An overlay's last word is the SHA-256 of its stored contents, or
/// `-` for a derived one. Lines `absent`, in order of PFN, are there only for absent pages. The lines `guest-os-id`, `cpu-vendor` and `tsc-frequency` are left out when
/// these are unknown.
package struct SnapshotDigester {
  private var hasher = SHA256Hasher()

  package init() {
    line("vmckpt snapshot 1")
  }

  package mutating func add(_ region: MemoryRegion) {
    line("region \(region.gpa) \(region.byteCount) \(region.fileOffset) \(region.name)")
  }

  package mutating func add(ramDigest: [UInt8]) {
    line("ram \(hexadecimal(ramDigest))")
  }

  /// Adds the pages that a dump left out; nothing where there are none.
  package mutating func add(_ absent: AbsentPages) {
    for run in absent.runs { line("absent \(run.lowerBound) \(run.count)") }
  }

  /// Adds what is known of the machine; `nil` for what is not.
  package mutating func add(guestOSID: String?, cpuVendor: String?, tscFrequencyHz: Int64?) {
    if let guestOSID { line("guest-os-id \(guestOSID)") }
    if let cpuVendor { line("cpu-vendor \(cpuVendor)") }
    if let tscFrequencyHz { line("tsc-frequency \(tscFrequencyHz)") }
  }

  package mutating func add(
    pfn: UInt64,
    kind: String,
    vp: UInt32,
    baked: Bool,
    parametersJSON: String,
    contents: PageDigest?
  ) {
    line(
      "overlay \(pfn) \(kind) \(vp) \(baked ? 1 : 0) \(parametersJSON) "
        + (contents?.description ?? "-")
    )
  }

  package mutating func add(
    deviceStateNamed name: String,
    format: String,
    version: UInt32,
    byteCount: UInt64,
    sha256: [UInt8]
  ) {
    line("device \(hexadecimal(sha256)) \(byteCount) \(version) \(format) \(name)")
  }

  /// The digest's 32 bytes.
  package mutating func finalize() -> [UInt8] { hasher.finalize() }

  private mutating func line(_ text: String) {
    var line = text + "\n"
    line.withUTF8 { hasher.update(UnsafeRawBufferPointer($0)) }
  }
}

/// Lower-case hexadecimal digits, two for each byte.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
