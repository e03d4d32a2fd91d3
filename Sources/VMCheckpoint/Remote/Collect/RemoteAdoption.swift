/// Lets the snapshots of a remote count again whose objects were copied, and so have new times.
struct RemoteAdoption {
  private let link: RemoteLink
  private let control: OperationControl

  init(_ link: RemoteLink, control: OperationControl) {
    self.link = link
    self.control = control
  }

  /// Puts each manifest that does not count once more, with a deadline of now, when the remote has its packs.
  ///
  /// - Returns: How many snapshots count again, and what is wrong with the others.
  /// - Throws: As ``RemoteTransport``; what was adopted until then is.
  func run() throws(VMCheckpointError) -> (adoptedCount: Int, problems: [String]) {
    var session = try RemoteSession(link)
    defer { session.end() }
    var packs = Set<RemoteID>()
    for facts in try link.list(RemoteNames.packs) {
      if let id = RemoteNames.packID(facts.key) { packs.insert(id) }
    }
    var (adoptedCount, problems): (Int, [String]) = (0, [])
    for facts in try link.list(RemoteNames.snapshots) {
      try control.cancellation.check()
      guard let generation = RemoteNames.generation(ofManifest: facts.key) else { continue }
      guard let (bytes, facts) = try link.whole(facts.key, atMost: Manifest.maximumByteCount) else {
        continue
      }
      let title = "\(link.transport.title)/\(facts.key)"
      do throws(VMCheckpointError) {
        let manifest = try Manifest(bytes, title: title)
        guard facts.modifiedSeconds > manifest.head.deadlineSeconds else { continue }
        let name = "snapshot \(quotedName(manifest.head.facts.name))"
        let lost = manifest.head.packs.filter { !packs.contains($0) }
        guard lost.isEmpty else {
          problems.append("\(name): the remote lacks \(lost.count) of its packs")
          continue
        }
        try session.renewIfNeeded()
        try session.commit(
          RemoteNames.manifest(
            vm: manifest.head.facts.vm,
            name: manifest.head.facts.name,
            generation: generation &+ 1,
            RemoteID()
          ),
          try manifest.encoded(deadlineSeconds: session.deadlineSeconds)
        )
        try link.transport.delete(facts.key)
        adoptedCount += 1
      } catch {
        guard error.isDamage else { throw error }
        problems.append(error.message)
      }
    }
    return (adoptedCount, problems)
  }
}
