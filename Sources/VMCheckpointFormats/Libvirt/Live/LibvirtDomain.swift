import VMCheckpoint

/// What libvirt reports about a domain.
struct LibvirtDomain {
  /// Names the domain whatever happens to it: a name can be given to another, and a number is of one start.
  let uuid: String
  let isRunning: Bool
  /// Whether QEMU emulates the processors (TCG) instead of running them in KVM.
  let isEmulated: Bool
  /// What the guest's disks are called, and the files or devices that they are in.
  let disks: [Disk]

  struct Disk: Hashable {
    /// Such as `vda`.
    var target: String
    var source: String
  }

  /// How to name the domain to virsh.
  var argument: String { "--domain=\(uuid)" }

  /// Asks for all of it.
  ///
  /// - Parameter name: A name, a UUID or a number.
  /// - Throws: ``VMCheckpointError``: `notFound`, or `unavailable` when the domain is in a state that cannot be
  ///   saved.
  init(_ name: String, _ virsh: Virsh) throws(VMCheckpointError) {
    let facts = Self.fields(try virsh.run("dominfo", ["--domain=\(name)"]))
    guard let uuid = facts["UUID"], Self.isUUID(uuid), let state = facts["State"] else {
      throw Self.notUnderstood("dominfo")
    }
    self.uuid = uuid
    try Self.requireMemory(state, isSaved: facts["Managed save"] == "yes", name: name)
    isRunning = state != "paused"
    // The first tag, `<domain type='kvm' id='1'>`.
    let head = try virsh.run("dumpxml", ["--domain=\(uuid)"]).prefix { $0 != ">" }
    isEmulated = !head.contains("type='kvm'") && !head.contains("type=\"kvm\"")
    disks = try Self.disks(virsh, uuid)
  }

  /// The disks that the domain has now.
  static func disks(_ virsh: Virsh, _ uuid: String) throws(VMCheckpointError) -> [Disk] {
    var result: [Disk] = []
    for line in try virsh.run("domblklist", ["--domain=\(uuid)"]).split(separator: "\n") {
      let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
      guard let target = words.first else { continue }
      // A comma would begin another part of --diskspec.
      guard target.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "z") ~= $0 }) else {
        throw notUnderstood("domblklist")
      }
      result.append(
        Disk(
          target: String(target),
          source: words.count > 1 ? String(words[1].drop { $0 == " " }) : ""
        )
      )
    }
    return result
  }

  private static func requireMemory(
    _ state: String,
    isSaved: Bool,
    name: String
  ) throws(VMCheckpointError) {
    switch state {
    // What others call blocked is idle here. A guest that shuts down still runs.
    case "running", "idle", "paused", "in shutdown": return
    case "shut off" where isSaved:
      throw VMCheckpointError(
        .unavailable,
        "domain \(quotedName(name)) does not run: its memory is in a managed save",
        hint: "save that file with libvirt-save: (for qemu:///system, "
          + "/var/lib/libvirt/qemu/save/NAME.save), or let the domain go on with virsh start"
      )
    default:
      throw VMCheckpointError(
        .unavailable,
        "domain \(quotedName(name)) is \(quotedName(state)) and cannot be saved",
        hint: "start it, or wait until it runs or is paused"
      )
    }
  }

  /// `NAME: VALUE` in each line.
  static func fields(_ text: String) -> [String: String] {
    var result: [String: String] = [:]
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      result[String(line[..<colon])] = String(
        value.reversed().drop { $0 == " " }.reversed()
      )
    }
    return result
  }

  private static func isUUID(_ text: String) -> Bool {
    text.utf8.count == 36
      && text.utf8.allSatisfy { $0 == UInt8(ascii: "-") || Character(UnicodeScalar($0)).isHexDigit }
  }

  private static func notUnderstood(_ command: String) -> VMCheckpointError {
    VMCheckpointError(.unavailable, "what virsh \(command) prints is not understood")
  }
}
