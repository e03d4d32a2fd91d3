import SystemPackage

/// What a process must be able to get for any command to end well.
package enum ProcessResources {
  /// Checks that a thread can be made and some files opened.
  ///
  /// Libraries under this one do not say that they lack either. libdispatch waits for a thread for ever,
  /// and SQLite reports a missing descriptor as a file that cannot be opened. Takes some 50 µs.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package static func require() throws(VMCheckpointError) {
    let (count, failure) = FreeDescriptors.count(atMost: FreeDescriptors.neededCount)
    if let failure {
      throw VMCheckpointError(
        .outOfResources,
        failure == .tooManyOpenFilesInSystem
          ? "the system's limit on open files is reached"
          : """
          the limit on open files is too small: \(FreeDescriptors.neededCount) more are needed, and \
          \(count) can be opened
          """,
        hint: VMCheckpointError.openFilesHint
      )
    }
    try WorkerThreads(count: 1) {}.join()
  }
}
