/// The store's secret: the key of fingerprints and checksums.
struct StoreSeed: Sendable {
  private let value: UInt64

  init(value: UInt64) {
    self.value = value
  }

  var fingerprinter: PageFingerprinter { PageFingerprinter(seed: value) }
  var extentChecksum: ExtentChecksum { ExtentChecksum(seed: value) }
}
