package import SystemPackage

extension VMCheckpointError {
  /// What helps against too few file descriptors.
  package static let openFilesHint = "raise the limit on open files, with: ulimit -n 1024"

  /// What helps where another file cannot be made for want of space. A full table of inodes gives the same error.
  package static let noSpaceHint =
    "there is no space, or no inode (df -i), for another file; free some"

  /// This error, or the same with the code `outOfResources` where `cause`, which is what the system
  /// said, means that descriptors or memory have run out.
  package func orOutOfResources(_ cause: Errno) -> VMCheckpointError {
    switch cause {
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem:
      VMCheckpointError(.outOfResources, message, hint: Self.openFilesHint)
    case .noMemory: VMCheckpointError(.outOfResources, message, hint: Self.memoryHint)
    default: self
    }
  }

  /// The same for a number from `errno`.
  package func orOutOfResources(errorNumber: Int32) -> VMCheckpointError {
    orOutOfResources(Errno(rawValue: errorNumber))
  }

  /// A source could not be opened, because of `cause`.
  ///
  /// - Parameter name: What it is and its path, as in `RAM file "guest.ram"`.
  package static func cannotOpen(_ name: String, _ cause: Errno) -> VMCheckpointError {
    switch cause {
    case .noSuchFileOrDirectory, .notDirectory:
      VMCheckpointError(.notFound, "there is no \(name)")
    case .permissionDenied, .notPermitted:
      VMCheckpointError(.permissionDenied, "no permission to read \(name)")
    default:
      VMCheckpointError(.inputOutput, "cannot open \(name): \(cause)").orOutOfResources(cause)
    }
  }
}
