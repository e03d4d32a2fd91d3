/// The snapshots of a remote, by their manifests.
package struct RemoteCatalog {
  /// A snapshot that counts.
  package struct Entry: Sendable {
    package var key: RemoteKey
    package var head: Manifest.Head
    package var byteCount: UInt64
    package var modifiedSeconds: Int64
  }

  private let link: RemoteLink

  init(_ link: RemoteLink) { self.link = link }

  /// All snapshots that count, of each the manifest of the highest generation, in the order of their saving.
  ///
  /// - Parameters:
  ///   - isWanted: Asked by key before a manifest is read.
  ///   - onDamage: Takes what is wrong with manifests that cannot be read, which are passed over.
  /// - Throws: As ``RemoteTransport``.
  func entries(
    where isWanted: (RemoteKey) -> Bool = { _ in true },
    control: OperationControl,
    onDamage: (String) -> Void
  ) throws(VMCheckpointError) -> [Entry] {
    var newest: [String: (generation: UInt32, entry: Entry)] = [:]
    for facts in try link.list(RemoteNames.snapshots) {
      try control.cancellation.check()
      guard let generation = RemoteNames.generation(ofManifest: facts.key), isWanted(facts.key)
      else {
        continue
      }
      let folder = String(RemoteNames.folder(ofManifest: facts.key))
      if let known = newest[folder], known.generation > generation { continue }
      do throws(VMCheckpointError) {
        guard let head = try ManifestHeads.read(facts, link) else { continue }
        let entry = Entry(
          key: facts.key,
          head: head,
          byteCount: facts.byteCount,
          modifiedSeconds: facts.modifiedSeconds
        )
        newest[folder] = (generation, entry)
      } catch {
        guard error.isDamage else { throw error }
        onDamage(error.message)
      }
    }
    return newest.values.map(\.entry).sorted {
      ($0.head.facts.completedAt, $0.head.facts.name)
        < ($1.head.facts.completedAt, $1.head.facts.name)
    }
  }

  /// The snapshot that `reference` names: by name, by the beginning of its UUID, or the one saved last (`latest`).
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`; `invalidArgument` for one that names several, or an ancestor.
  static func resolve(
    _ reference: String,
    among entries: [Entry],
    title: String
  ) throws(VMCheckpointError) -> Entry {
    if reference == "latest", let last = entries.last { return last }
    let named = entries.filter { $0.head.facts.name.utf8.elementsEqual(reference.utf8) }
    let found =
      named.isEmpty && reference.utf8.count >= 4
      ? entries.filter { $0.head.facts.uuid.hasPrefix(reference) } : named
    guard let first = found.first else {
      throw VMCheckpointError(
        .notFound,
        "\(title) has no snapshot \(quotedName(reference))",
        hint: "see: vmckpt remote show"
      )
    }
    guard found.count == 1 else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(title) has \(found.count) snapshots \(quotedName(reference)), of several VMs",
        hint: "name one by its UUID; see: vmckpt remote show"
      )
    }
    return first
  }
}
