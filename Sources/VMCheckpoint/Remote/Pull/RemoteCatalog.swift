/// The snapshots of a remote: what its manifests say, and for lists what a collection has written down of them
/// (``CatalogObject``).
///
/// Only manifests that count are told, of each snapshot that of the highest generation. The keys are listed once.
package final class RemoteCatalog {
  /// A snapshot that counts.
  package typealias Entry = CatalogObject.Row

  private let link: RemoteLink
  private let control: OperationControl
  private let onDamage: (String) -> Void
  private lazy var manifests = Result { () throws(VMCheckpointError) in
    try link.list(RemoteNames.snapshots).filter {
      RemoteNames.generation(ofManifest: $0.key) != nil
    }
  }
  private lazy var written = Result { () throws(VMCheckpointError) in try rows() }

  /// - Parameter onDamage: Takes what is wrong with objects that cannot be read, which are passed over; `nil`: the
  ///   control's warnings.
  init(_ link: RemoteLink, control: OperationControl, onDamage: ((String) -> Void)? = nil) {
    self.link = link
    self.control = control
    self.onDamage = onDamage ?? { control.onWarning?($0) }
  }

  /// All snapshots, in the order of their saving.
  ///
  /// - Throws: As ``RemoteTransport``.
  func entries() throws(VMCheckpointError) -> [Entry] { try entries { _ in true } }

  /// All manifests with their heads. No catalogue is asked.
  ///
  /// - Parameter onVoid: Takes the keys of manifests that do not count, since they were put after their deadlines.
  /// - Throws: As ``RemoteTransport``.
  func heads(
    onVoid: (RemoteKey) -> Void = { _ in }
  ) throws(VMCheckpointError) -> [(entry: Entry, head: Manifest.Head)] {
    try newest { _ in
      true
    } reading: { (facts) throws(VMCheckpointError) in
      guard let (head, counts) = try ManifestHeads.any(facts, link) else { return nil }
      guard counts else {
        onVoid(facts.key)
        return nil
      }
      return (Self.entry(facts, head), head)
    }
  }

  /// The snapshot that `reference` names: by name, by the beginning of its UUID, or the one saved last (`latest`).
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`; `invalidArgument` for one that names several; as ``RemoteTransport``.
  func entry(_ reference: String) throws(VMCheckpointError) -> Entry {
    func isNamed(_ entry: Entry) -> Bool {
      entry.summary.name.utf8.elementsEqual(reference.utf8)
    }
    if reference == "latest", let last = try entries().last { return last }
    var found = try entries { RemoteNames.isManifest($0, ofSnapshotNamed: reference) }
      .filter(isNamed)
    if found.isEmpty, reference.utf8.count >= 4 {
      found = try entries().filter { $0.summary.uuid.hasPrefix(reference) }
    }
    guard let first = found.first else {
      throw VMCheckpointError(
        .notFound,
        "\(link.transport.title) has no snapshot \(quotedName(reference))",
        hint: "see: vmckpt remote show"
      )
    }
    guard found.count == 1 else { throw severalSnapshots(reference, found) }
    return first
  }

  /// The error of a reference that names several snapshots: it says how to name one of them.
  private func severalSnapshots(_ reference: String, _ found: [Entry]) -> VMCheckpointError {
    let title = "\(link.transport.title) has \(found.count) snapshots \(quotedName(reference))"
    func listed(_ texts: [String]) -> String {
      texts.prefix(Self.listedCount).joined(separator: ", ")
        + (texts.count > Self.listedCount ? ", …" : "")
    }
    if found.allSatisfy({ $0.summary.name == reference }) {
      return VMCheckpointError(
        .invalidArgument,
        "\(title), of several VMs",
        hint: "name one by its UUID: "
          + listed(found.map { "\($0.summary.uuid) (of \(quotedName($0.summary.vm)))" })
      )
    }
    if Set(found.map(\.summary.uuid)).count == 1 {
      return VMCheckpointError(
        .invalidArgument,
        "\(title): it was pushed under several names",
        hint: "name one of: \(listed(found.map(\.summary.name)))"
      )
    }
    return VMCheckpointError(
      .invalidArgument,
      "\(title), whose UUIDs begin so",
      hint: "give more of the UUID: \(listed(found.map(\.summary.uuid)))"
    )
  }

  /// How many of several snapshots are named.
  private static let listedCount = 5

  /// A snapshot by its whole UUID, under whichever name the remote has it; `nil`: it does not have it.
  ///
  /// - Throws: As ``RemoteTransport``.
  func entry(uuid: String) throws(VMCheckpointError) -> Entry? {
    try entries().last { $0.summary.uuid == uuid }
  }

  /// The folder of the manifests that are called `name`, whether they can be read or not; `nil`: there is none, or
  /// several VMs have one.
  ///
  /// - Throws: As ``RemoteTransport``.
  func onlyFolder(named name: String) throws(VMCheckpointError) -> Substring? {
    let keys = try manifests.get().map(\.key)
    let folders = Set(
      keys.filter { RemoteNames.isManifest($0, ofSnapshotNamed: name) }
        .map { RemoteNames.folder(ofManifest: $0) }
    )
    return folders.count == 1 ? folders.first : nil
  }

  static func entry(_ facts: RemoteObjectFacts, _ head: Manifest.Head) -> Entry {
    Entry(
      key: facts.key,
      byteCount: facts.byteCount,
      modifiedSeconds: facts.modifiedSeconds,
      summary: RemoteSnapshotSummary(head)
    )
  }

  private func entries(
    where isWanted: (RemoteKey) -> Bool
  ) throws(VMCheckpointError) -> [Entry] {
    let found = try newest(where: isWanted) { (facts) throws(VMCheckpointError) in
      if let row = try written.get()[facts.key], row.isOf(facts) { return (row, ()) }
      return try ManifestHeads.read(facts, link).map { (Self.entry(facts, $0), ()) }
    }
    return found.map(\.entry)
  }

  /// What `read` says of the manifests that count.
  private func newest<Content>(
    where isWanted: (RemoteKey) -> Bool,
    reading read: (RemoteObjectFacts) throws(VMCheckpointError) -> (Entry, Content)?
  ) throws(VMCheckpointError) -> [(entry: Entry, head: Content)] {
    var newest: [Substring: (generation: UInt32, entry: Entry, content: Content)] = [:]
    for facts in try manifests.get() where isWanted(facts.key) {
      try control.cancellation.check()
      let generation = RemoteNames.generation(ofManifest: facts.key) ?? 0
      let folder = RemoteNames.folder(ofManifest: facts.key)
      if let known = newest[folder], known.generation > generation { continue }
      do throws(VMCheckpointError) {
        guard let (entry, content) = try read(facts) else { continue }
        newest[folder] = (generation, entry, content)
      } catch {
        guard error.isDamage else { throw error }
        onDamage(error.message)
      }
    }
    return newest.values.map { ($0.entry, $0.content) }.sorted {
      ($0.entry.summary.completedAt, $0.entry.summary.name)
        < ($1.entry.summary.completedAt, $1.entry.summary.name)
    }
  }

  // MARK: The catalogue

  /// What the newest catalogue that can be read says.
  private func rows() throws(VMCheckpointError) -> [RemoteKey: Entry] {
    let listed = try link.list(RemoteNames.catalogs).sorted {
      $0.modifiedSeconds > $1.modifiedSeconds
    }
    for facts in listed {
      do throws(VMCheckpointError) {
        let limit = CatalogObject.maximumByteCount
        guard let (bytes, _) = try link.whole(facts.key, atMost: limit) else { continue }
        let rows = try CatalogObject.decode(
          bytes[...],
          title: "\(link.transport.title)/\(facts.key)"
        )
        return Dictionary(rows.map { ($0.key, $0) }) { first, _ in first }
      } catch {
        guard error.isDamage else { throw error }
        onDamage(error.message)
      }
    }
    return [:]
  }

  /// Writes a catalogue of `entries` in place of those that are there, unless one says the same.
  ///
  /// - Throws: As ``RemoteTransport``. Readers do without it then.
  func write(_ entries: [Entry]) throws(VMCheckpointError) {
    let before = try link.list(RemoteNames.catalogs)
    guard !entries.isEmpty || !before.isEmpty else { return }
    if before.count == 1, Set(try written.get().values) == Set(entries) { return }
    let bytes = try CatalogObject.encode(entries.sorted { $0.key.text < $1.key.text })
    // Of several collectors each deletes what was there before its own.
    if UInt64(bytes.count) <= CatalogObject.maximumByteCount {
      try link.put(RemoteNames.catalog(RemoteID()), bytes)
    }
    for facts in before { try link.transport.delete(facts.key) }
  }
}
