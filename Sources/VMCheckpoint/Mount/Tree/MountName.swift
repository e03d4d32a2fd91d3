/// The names of snapshots and VMs as parts of paths in a mount.
///
/// A `/` in a snapshot's name is one in its path. What no path can have, or what would be mistaken for a
/// snapshot's own file, gets a `~` at its end, which no name has; other bytes that no name of a user's has become `%XX`.
/// So two names never have one path.
package enum MountName {
  package static let ram = "ram"
  package static let bareRAM = "ram.bare"
  package static let overlays = "overlays.json"
  package static let description = "snapshot.json"
  package static let deviceStates = "device-states"
  package static let latest = "latest"
  package static let byName = "by-name"
  package static let byVM = "by-vm"

  /// Names of files that a snapshot's folder may have.
  private static let own: Set<String> = [
    ram, bareRAM, overlays, description, deviceStates, "ram.qemu", "run.sh", "device.state",
    "core.elf", "memory.lime",
  ]

  /// The path of a snapshot below ``byName``; `nil` when a part is too long for one, as only a damaged or
  /// hostile store has it.
  package static func components(ofSnapshot name: String) -> [String]? {
    var components: [String] = []
    for (index, part) in parts(name).enumerated() {
      // Below another snapshot's folder it would be one of that one's files.
      let isTaken = index > 0 && isOwn(part)
      let component = PathComponent.escaped(part) + (isTaken ? "~" : "")
      guard component.utf8.count <= PathComponent.maximumByteCount else { return nil }
      components.append(component)
    }
    return components
  }

  /// The path of a link to a snapshot below its VM's folder.
  static func linkComponents(ofSnapshot name: String) -> [String]? {
    var components: [String] = []
    for (index, part) in parts(name).enumerated() {
      let component = PathComponent.escaped(part) + (index == 0 && part == latest ? "~" : "")
      guard component.utf8.count <= PathComponent.maximumByteCount else { return nil }
      components.append(component)
    }
    return components
  }

  private static func parts(_ name: String) -> [String] {
    name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
  }

  private static func isOwn(_ part: String) -> Bool {
    own.contains(part)
      || part.hasPrefix("ram.") && part.utf8.dropFirst(4).allSatisfy { (0x30...0x39).contains($0) }
  }
}
