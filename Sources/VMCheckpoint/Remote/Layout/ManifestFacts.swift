/// What a manifest says of a snapshot beside its pages: what the store's rows say, and nothing that means
/// something in one store only.
package struct ManifestFacts: Sendable, Hashable, Codable {
  package struct Parent: Sendable, Hashable, Codable {
    package var uuid: String
    package var name: String

    package init(uuid: String, name: String) {
      self.uuid = uuid
      self.name = name
    }
  }

  package struct Region: Sendable, Hashable, Codable {
    package var gpa: UInt64
    package var bytes: UInt64
    package var fileOffset: UInt64
    package var name: String
  }

  /// Where a page is: which of the manifest's packs, which entry of that, which slot.
  package struct Place: Sendable, Hashable, Codable {
    package var pack: UInt32
    package var entry: UInt32
    package var slot: UInt8

    package init(pack: UInt32, entry: UInt32, slot: UInt8) {
      self.pack = pack
      self.entry = entry
      self.slot = slot
    }
  }

  package struct Overlay: Sendable, Hashable, Codable {
    package var pfn: UInt64
    package var kind: String
    package var vp: UInt32
    package var parameters: String
    package var baked: Bool
    /// Of stored contents; absent for derived ones, and for a page of zeros.
    package var contents: Place?
  }

  package struct DeviceState: Sendable, Hashable, Codable {
    package var name: String
    package var format: String
    package var version: UInt32
    package var bytes: Int64
    /// Hexadecimal.
    package var sha256: String
    package var encoding: String
    /// Where its parts are, in order; the slots are 0.
    package var parts: [Place]
  }

  package struct WorkingSet: Sendable, Hashable, Codable {
    package var door: String
    package var recordedAt: String
    package var durationSeconds: Double

    init(_ summary: VMCheckpoint.WorkingSet.Summary) {
      (door, recordedAt) = (summary.door, summary.recordedAt)
      durationSeconds = summary.durationSeconds
    }
  }

  package var uuid: String
  package var name: String
  package var vm: String
  package var parent: Parent?
  package var startedAt: String
  package var completedAt: String
  package var source: String
  package var producer: String
  package var guestOSID: String?
  package var cpuVendor: String?
  package var tscFrequencyHz: Int64?
  package var ramBytes: UInt64
  package var storedPages: UInt64
  package var newPages: UInt64
  package var newStoredBytes: UInt64
  /// Hexadecimal.
  package var ramDigest: String
  /// Hexadecimal.
  package var digest: String
  package var tags: [String: String]
  package var regions: [Region]
  package var overlays: [Overlay]
  package var overlayOrigin: String?
  package var deviceStates: [DeviceState]
  package var workingSet: WorkingSet?
}

extension ManifestFacts {
  private static let maximumTextByteCount = 64 << 10

  /// Checks what a store's own writers keep to, and a stranger need not have kept to. What the rows' own rules find is
  /// left to them.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `invalidArgument`.
  package func check() throws(VMCheckpointError) {
    try SnapshotName.check(vm, what: "VM name")
    for (key, value) in tags {
      try SnapshotName.check(key, what: "tag key")
      try Self.check(value)
    }
    let times = [startedAt, completedAt, workingSet?.recordedAt ?? ""]
    guard uuid.utf8.count == 36, uuid.utf8.allSatisfy(SnapshotName.allows),
      times.allSatisfy({ $0.utf8.count <= 32 && $0.utf8.allSatisfy(SnapshotName.allows) }),
      overlays.count <= OverlayRow.maximumCount
    else { throw damage }
    for text in [source, producer, overlayOrigin ?? "", workingSet?.door ?? ""] {
      try Self.check(text)
    }
    for (text, what) in [(ramDigest, "its RAM"), (digest, "all of it")] {
      try check(digest: text, of: what)
    }
    for state in deviceStates {
      try SnapshotName.check(state.name, what: "device state name")
      try SnapshotName.check(state.format, what: "device state format")
      try check(digest: state.sha256, of: "device state \(quotedName(state.name))")
      guard (0...Int64(VMCheckpoint.DeviceState.maximumByteCount)).contains(state.bytes) else {
        throw damage
      }
    }
  }

  private func check(digest: String, of what: String) throws(VMCheckpointError) {
    let digits = digest.utf8
    guard digits.count == 2 * PageDigest.byteCount,
      digits.allSatisfy({
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
          || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
      })
    else {
      throw .corrupt(
        "the manifest of snapshot \(quotedName(name)) is damaged: the SHA-256 of \(what) is not one"
      )
    }
  }

  private var damage: VMCheckpointError {
    .corrupt("what describes snapshot \(quotedName(name)) is damaged")
  }

  private static func check(_ text: String) throws(VMCheckpointError) {
    guard text.utf8.count <= maximumTextByteCount else {
      throw .corrupt("what describes a snapshot has a text of \(text.utf8.count) bytes")
    }
  }
}
