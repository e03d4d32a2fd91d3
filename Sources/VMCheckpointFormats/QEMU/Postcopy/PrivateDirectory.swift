import Foundation
import Glibc
import SystemPackage
import VMCheckpoint

/// Where sockets, reports and restored guests are for a while: a directory that nobody else may enter.
struct PrivateDirectory {
  private static let prefix = "vmckpt-qemu."
  private static let randomCount = 6

  let path: String

  /// - Parameter holdsRAM: Whether a guest's RAM goes there, so that it is to be at this very place.
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate`.
  init(in parent: String, holdsRAM: Bool = false) throws(VMCheckpointError) {
    // The path of a socket has at most 107 bytes.
    var parent = holdsRAM || parent.utf8.count <= 60 ? parent : "/tmp"
    // QEMU may run in another directory.
    if !parent.hasPrefix("/") { parent = "\(FileManager.default.currentDirectoryPath)/\(parent)" }
    var template = Array(
      "\(parent)/\(Self.prefix)\(String(repeating: "X", count: Self.randomCount))".utf8CString
    )
    guard mkdtemp(&template) != nil else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(
        .cannotCreate,
        "cannot make a directory in \(quotedName(parent)): \(code)",
        hint: "set TMPDIR to another place"
      )
    }
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  /// Whether a path is that of a file of this name in such a directory, which need not be there any more.
  static func isFile(_ path: String, named name: String) -> Bool {
    holds(path) && path.split(separator: "/").last.map(String.init) == name
  }

  /// Whether a path is below such a directory.
  static func holds(_ path: String) -> Bool {
    path.split(separator: "/").dropLast().contains {
      $0.hasPrefix(prefix) && $0.utf8.count == prefix.utf8.count + randomCount
    }
  }

  func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Removes it and all that is in it, and warns where that fails: a guest's RAM may be there.
  func remove(_ control: OperationControl) {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      control.onWarning?("cannot remove the temporary directory \(quotedName(path)); remove it")
    }
  }
}
