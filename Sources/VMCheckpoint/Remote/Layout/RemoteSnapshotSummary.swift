/// What lists say of a snapshot of a remote.
package struct RemoteSnapshotSummary: Sendable, Hashable {
  package var uuid: String
  package var name: String
  package var vm: String
  /// Its parent's name.
  package var parent: String?
  package var completedAt: String
  package var ramByteCount: UInt64
  package var storedPageCount: UInt64
  package var packCount: Int
  package var deviceStateCount: Int
  package var overlayCount: Int
  package var tags: [String: String]
  /// Hexadecimal.
  package var digest: String

  package init(
    uuid: String,
    name: String,
    vm: String,
    parent: String?,
    completedAt: String,
    ramByteCount: UInt64,
    storedPageCount: UInt64,
    packCount: Int,
    deviceStateCount: Int,
    overlayCount: Int,
    tags: [String: String],
    digest: String
  ) {
    self.uuid = uuid
    self.name = name
    self.vm = vm
    self.parent = parent
    self.completedAt = completedAt
    self.ramByteCount = ramByteCount
    self.storedPageCount = storedPageCount
    self.packCount = packCount
    self.deviceStateCount = deviceStateCount
    self.overlayCount = overlayCount
    self.tags = tags
    self.digest = digest
  }
}

extension RemoteSnapshotSummary {
  /// What is told of the snapshot whose manifest has this head.
  init(_ head: Manifest.Head) {
    let facts = head.facts
    self.init(
      uuid: facts.uuid,
      name: facts.name,
      vm: facts.vm,
      parent: facts.parent?.name,
      completedAt: facts.completedAt,
      ramByteCount: facts.ramBytes,
      storedPageCount: facts.storedPages,
      packCount: head.packs.count,
      deviceStateCount: facts.deviceStates.count,
      overlayCount: facts.overlays.count,
      tags: facts.tags,
      digest: facts.digest
    )
  }
}
