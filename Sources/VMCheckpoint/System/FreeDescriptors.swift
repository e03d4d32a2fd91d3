import Glibc
package import SystemPackage

/// How many more files this process may open.
package enum FreeDescriptors {
  /// The descriptors that a command needs at most beside those of the files that the user names. It opens
  /// the store, its journal, lock and folder, a restore's files with their folder, and what a VM is saved
  /// through. A VM with many RAM files needs one more for each.
  package static let neededCount = 16

  /// Whether fewer can be opened than SQLite opens to begin a transaction.
  package static var areFew: Bool { count(atMost: 4).count < 4 }

  /// Makes as many descriptors as it can, up to `maximum`, and closes them again.
  ///
  /// - Returns: How many those were, and what the system said to one more; `nil`: nothing.
  package static func count(atMost maximum: Int) -> (count: Int, failure: Errno?) {
    var descriptors: [Int32] = []
    defer { for descriptor in descriptors { close(descriptor) } }
    // A socket needs no file, which may be missing or forbidden.
    while descriptors.count < maximum {
      let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
      let descriptor =
        descriptors.first.map { fcntl($0, F_DUPFD_CLOEXEC, 0) } ?? socket(AF_UNIX, type, 0)
      guard descriptor >= 0 else { return (descriptors.count, Errno(rawValue: errno)) }
      descriptors.append(descriptor)
    }
    return (descriptors.count, nil)
  }
}
