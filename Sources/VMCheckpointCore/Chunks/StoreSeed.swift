/// The store's secret: the key of fingerprints and checksums.
package struct StoreSeed: Hashable, Codable, Sendable {
  private let value: UInt64

  package init(value: UInt64) {
    self.value = value
  }

  package var fingerprinter: PageFingerprinter { PageFingerprinter(seed: value) }
  package var extentChecksum: ExtentChecksum { ExtentChecksum(seed: value) }
}
