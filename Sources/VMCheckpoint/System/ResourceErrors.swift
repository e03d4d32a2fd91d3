package import SystemPackage

extension VMCheckpointError {
  /// What helps against too few file descriptors.
  package static let openFilesHint = "raise the limit on open files, with: ulimit -n 1024"

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

  /// No thread could be made, because of `cause`.
  package static func noThread(_ cause: Errno) -> VMCheckpointError {
    VMCheckpointError(
      .outOfResources,
      "cannot start a thread: \(cause)",
      hint: "raise the limit on processes (ulimit -u, or the container's), or on memory (ulimit -v)"
    )
  }
}
