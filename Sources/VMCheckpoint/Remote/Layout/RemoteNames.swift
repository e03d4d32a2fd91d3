/// The keys of a remote's objects.
package enum RemoteNames {
  /// What describes the remote; put once, when it is made.
  package static let description = RemoteKey("remote.json")!

  package static let packs = "packs/"
  package static let snapshots = "snapshots/"
  package static let indexRuns = "index/"
  package static let sessions = "sessions/"
  package static let condemned = "gc/"
  package static let seen = "seen/"
  package static let catalogs = "catalog/"

  package static func pack(_ id: RemoteID) -> RemoteKey {
    let text = id.description
    return RemoteKey("\(packs)\(text.prefix(2))/\(text)")!
  }

  /// The pack that has this key; `nil` for what is no pack's.
  package static func packID(_ key: RemoteKey) -> RemoteID? { lastPart(key, in: packs) }

  package static func indexRun(_ id: RemoteID) -> RemoteKey { RemoteKey("\(indexRuns)\(id)")! }
  package static func session(_ id: RemoteID) -> RemoteKey { RemoteKey("\(sessions)\(id)")! }
  package static func condemnedPacks(_ id: RemoteID) -> RemoteKey {
    RemoteKey("\(condemned)\(id)")!
  }

  package static func seenManifests(_ id: RemoteID) -> RemoteKey { RemoteKey("\(seen)\(id)")! }

  package static func catalog(_ id: RemoteID) -> RemoteKey { RemoteKey("\(catalogs)\(id)")! }

  /// The ID in a manifest's key; `nil` for what is no manifest's.
  package static func id(ofManifest key: RemoteKey) -> RemoteID? {
    generation(ofManifest: key) == nil ? nil : RemoteID(key.text.suffix(32))
  }

  /// The beginning of the keys of a snapshot's manifests.
  package static func manifests(vm: String, name: String) -> String {
    "\(snapshots)\(part(vm))/\(part(name))/"
  }

  /// A key of a new manifest of a snapshot. Of several the one with the highest generation counts.
  package static func manifest(vm: String, name: String, generation: UInt32, _ id: RemoteID)
    -> RemoteKey
  {
    let digits = String(generation, radix: 16)
    let padded = String(repeating: "0", count: 8 - digits.count) + digits
    return RemoteKey("\(manifests(vm: vm, name: name))\(padded)-\(id)")!
  }

  /// The generation in a manifest's key; `nil` for what is no manifest's.
  package static func generation(ofManifest key: RemoteKey) -> UInt32? {
    let parts = key.text.split(separator: "/")
    guard key.text.hasPrefix(snapshots), parts.count == 4 else { return nil }
    let last = parts[3]
    guard last.utf8.count == 41, last.dropFirst(8).first == "-", RemoteID(last.suffix(32)) != nil
    else { return nil }
    return UInt32(last.prefix(8), radix: 16)
  }

  /// What all manifests of one snapshot's name share.
  package static func folder(ofManifest key: RemoteKey) -> Substring {
    key.text[..<(key.text.lastIndex(of: "/") ?? key.text.endIndex)]
  }

  /// Whether a manifest's key is that of a snapshot of this name, of whichever VM.
  static func isManifest(_ key: RemoteKey, ofSnapshotNamed name: String) -> Bool {
    let parts = key.text.split(separator: "/")
    return parts.count == 4 && parts[2].utf8.elementsEqual(part(name).utf8)
  }

  /// A name as a part of a key: the beginning of it that people can read, and what tells it from all others.
  private static func part(_ name: String) -> String {
    let readable = name.utf8.prefix(48).map { byte -> Character in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"):
        Character(UnicodeScalar(byte))
      default: "_"
      }
    }
    return String(readable) + "-" + hexadecimal(SHA256Hasher.hash(Array(name.utf8)).prefix(8))
  }

  private static func lastPart(_ key: RemoteKey, in folder: String) -> RemoteID? {
    guard key.text.hasPrefix(folder) else { return nil }
    return RemoteID(key.text.split(separator: "/").last ?? "")
  }
}
