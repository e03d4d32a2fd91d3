/// The rules for names that users give: snapshots, VMs, and tag keys.
public enum SnapshotName {
  /// The longest name in bytes; every byte is an ASCII character.
  public static let maximumByteCount = 255

  /// The name that stands for the newest snapshot and that no snapshot may have.
  public static let latest = "latest"

  /// Whether `character` may be in a name: letters, digits and `._-/:@+`.
  package static func allows(_ character: UInt8) -> Bool {
    switch character {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "/"),
      UInt8(ascii: ":"), UInt8(ascii: "@"), UInt8(ascii: "+"):
      true
    default: false
    }
  }

  /// Checks the name of a new snapshot.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  public static func check(_ name: String) throws(VMCheckpointError) {
    try check(name, what: "snapshot name")
    guard name != latest else {
      throw VMCheckpointError(
        .invalidArgument,
        "\"latest\" stands for the newest snapshot and cannot be a name",
        hint: "choose another --name"
      )
    }
  }

  /// Checks a VM's name or a tag's key: the same characters as a snapshot's name.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`, starting with `what`.
  public static func check(_ name: String, what: String) throws(VMCheckpointError) {
    guard !name.isEmpty, name.utf8.count <= maximumByteCount, name.utf8.allSatisfy(allows) else {
      throw VMCheckpointError(
        .invalidArgument,
        "invalid \(what) \(quotedName(name))",
        hint: "a \(what) has 1 to \(maximumByteCount) letters, digits and ._-/:@+"
      )
    }
  }

  /// `text` with every run of characters that a name may not have turned into one `_`, cut to fit.
  /// Where that changes it, a checksum of `text` follows, so that other texts give other names.
  package static func sanitized(_ text: String, maximumByteCount: Int) -> String {
    if text.utf8.count <= maximumByteCount, text.utf8.allSatisfy(allows) { return text }
    var name: [UInt8] = []
    var previousIsAllowed = true
    for byte in text.utf8 {
      let isAllowed = allows(byte)
      if isAllowed {
        name.append(byte)
      } else if previousIsAllowed {
        name.append(UInt8(ascii: "_"))
      }
      previousIsAllowed = isAllowed
    }
    let suffix = "." + hexadecimal(SHA256Hasher.hash(Array(text.utf8)).prefix(4))
    let stem = name.prefix(maximumByteCount - suffix.utf8.count)
    return String(decoding: stem, as: UTF8.self) + suffix
  }
}
