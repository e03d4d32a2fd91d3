import Glibc

/// Another user of the machine, without any of root's rights: what root starts as that user.
package enum OtherUser {
  package static let identifier: UInt32 = 61_234

  /// The command line that runs `command` as that user.
  package static func commandLine(_ command: [String]) -> [String] {
    [
      "/usr/bin/env", "setpriv", "--reuid", "\(identifier)", "--regid", "\(identifier)",
      "--clear-groups",
    ] + command
  }

  /// Only root can become another user, who must be able to reach the built binary.
  package static let isThere: Bool = {
    guard geteuid() == 0, let path = try? VMCkptTool.path() else { return false }
    return (try? run(commandLine([path, "--version"])))?.succeeded == true
  }()

  /// Gives a file, or a symbolic link itself, to that user.
  package static func own(_ path: String) throws {
    guard lchown(path, identifier, identifier) == 0 else {
      throw TestSetupError("cannot give \(path) away")
    }
  }
}
