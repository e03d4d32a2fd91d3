import Glibc
import SystemPackage
import VMCheckpoint

/// The two files of a Firecracker snapshot. They have any names: what a file is, its bytes show.
struct FirecrackerFiles: Hashable {
  /// The names in a restored directory.
  static let memoryName = "memory"
  static let stateName = "vmstate"

  /// The format of the device state that holds the vmstate file, byte for byte, and its version.
  static let stateFormat = "firecracker-vmstate"
  static let stateVersion: UInt32 = 1

  var memoryPath: String
  /// `nil`: it is not needed, and not known.
  var statePath: String?

  /// Finds the files of a snapshot.
  ///
  /// - Parameters:
  ///   - path: A directory, or a memory file.
  ///   - givenStatePath: The vmstate file, if it is known.
  ///   - needsState: Whether a memory file's vmstate is looked for beside it.
  /// - Throws: ``VMCheckpointError`` when there are none, or several; `invalidArgument` when the vmstate file
  ///   belongs to other memory by its name.
  init(
    _ path: String,
    givenStatePath: String?,
    needsState: Bool
  ) throws(VMCheckpointError) {
    guard SourceDirectory.exists(at: path) else {
      memoryPath = path
      guard !Self.isState(path) else {
        throw .invalidData(
          "\(quotedName(path)) is a vmstate file of Firecracker, and holds no RAM",
          hint: "give the memory file that was written with it, or their directory"
        )
      }
      statePath = givenStatePath
      guard needsState, SourceDirectory.byteCount(ofFileAt: path) != nil else { return }
      let directory = SourceDirectory(containing: path)
      if givenStatePath == nil {
        let states = try Self.states(in: directory)
        let own = states.filter { Self.isNamed($0, after: path) }
        statePath = try Self.only(
          own.count == 1 ? own : states,
          directory,
          what: "vmstate file",
          hint: "name the one that was written with the memory file with --vmstate"
        )
      }
      try requireNoOther(in: directory)
      return
    }
    let directory = SourceDirectory(path: path)
    let states = try Self.states(in: directory)
    statePath = givenStatePath
    if let givenStatePath {
      guard states.isEmpty || states.contains(where: { Self.isSame($0, givenStatePath) }) else {
        throw VMCheckpointError(
          .invalidArgument,
          "--vmstate names \(quotedName(givenStatePath)), and directory \(quotedName(path)) has a vmstate file "
            + "of its own",
          hint: "leave --vmstate out, or give the memory file by its path"
        )
      }
    } else {
      statePath = try Self.only(
        states,
        directory,
        what: "vmstate file",
        hint: "give the memory file, and its vmstate file with --vmstate"
      )
    }
    var others: [String] = []
    for name in try directory.names() {
      let file = directory.file(name)
      let byteCount = SourceDirectory.byteCount(ofFileAt: file) ?? 0
      if byteCount > 0, byteCount % UInt64(Page.byteCount) == 0, !states.contains(file) {
        others.append(file)
      }
    }
    memoryPath = try Self.only(
      others,
      directory,
      what: "memory file",
      hint: "give the memory file by its path"
    )
  }

  // MARK: Names

  /// Whether two files have the same name but for what follows its last dot (`web-1.mem`, `web-1.vmstate`), or
  /// one has the other's whole name before it (`web-1.mem.vmstate`).
  private static func isNamed(_ statePath: String, after memoryPath: String) -> Bool {
    guard let state = FilePath(statePath).lastComponent,
      let memory = FilePath(memoryPath).lastComponent
    else { return false }
    return state.stem == memory.stem || state.stem == memory.string
  }

  private static func isSame(_ path: String, _ other: String) -> Bool {
    var (status, otherStatus) = (stat(), stat())
    guard stat(path, &status) == 0, stat(other, &otherStatus) == 0 else { return false }
    return status.st_dev == otherStatus.st_dev && status.st_ino == otherStatus.st_ino
  }

  /// Whether the names show that the vmstate file was written with the memory file.
  var isNamedAlike: Bool { statePath.map { Self.isNamed($0, after: memoryPath) } ?? false }

  /// Whether the vmstate file is beside the memory file.
  func isState(beside memoryPath: String) -> Bool {
    guard let statePath else { return false }
    return Self.isSame(
      SourceDirectory(containing: statePath).path,
      SourceDirectory(containing: memoryPath).path
    )
  }

  /// Refuses a vmstate that by the files' names was written with other memory: with it, the guest would go on with
  /// registers of another moment.
  ///
  /// - Parameter directory: The memory file's.
  private func requireNoOther(in directory: SourceDirectory) throws(VMCheckpointError) {
    guard let statePath, !isNamedAlike || !isState(beside: memoryPath) else { return }
    let own = try Self.states(in: directory).first { Self.isNamed($0, after: memoryPath) }
    if let own, !Self.isSame(own, statePath) {
      throw VMCheckpointError(
        .invalidArgument,
        "--vmstate names \(quotedName(statePath)), and memory file \(quotedName(memoryPath)) has "
          + "\(quotedName(own)) beside it",
        hint: "--vmstate is that of the last memory file; name \(quotedName(own)), or leave it out"
      )
    }
    let byteCount = SourceDirectory.byteCount(ofFileAt: memoryPath)
    let stateDirectory = SourceDirectory(containing: statePath)
    // A listing with too many files shows nothing, and is not in the way of a file that was named.
    let names = (try? stateDirectory.names()) ?? []
    let others = names.map(stateDirectory.file).filter { other in
      Self.isNamed(statePath, after: other)
        && SourceDirectory.byteCount(ofFileAt: other) == byteCount
        && !Self.isSame(other, statePath) && !Self.isSame(other, memoryPath)
    }
    guard let other = others.first else { return }
    throw VMCheckpointError(
      .invalidArgument,
      "vmstate file \(quotedName(statePath)) belongs to memory file \(quotedName(other)) by its name, and not to "
        + "\(quotedName(memoryPath))",
      hint: "name the one that was written with \(quotedName(memoryPath)) with --vmstate"
    )
  }

  /// Whether a directory has a vmstate file of any version.
  static func hasState(_ directory: SourceDirectory) -> Bool {
    guard let states = try? states(in: directory) else { return false }
    return !states.isEmpty
  }

  private static func states(
    in directory: SourceDirectory
  ) throws(VMCheckpointError) -> [String] {
    try directory.names().map(directory.file).filter(isState)
  }

  private static func isState(_ path: String) -> Bool {
    guard let byteCount = SourceDirectory.byteCount(ofFileAt: path),
      (9...UInt64(FirecrackerState.maximumByteCount)).contains(byteCount),
      let bytes = try? SourceDirectory.read(
        path,
        noun: "file",
        maximumByteCount: FirecrackerState.maximumByteCount
      )
    else { return false }
    return FirecrackerState.isState(bytes)
  }

  private static func only(
    _ files: [String],
    _ directory: SourceDirectory,
    what: String,
    hint: String
  ) throws(VMCheckpointError) -> String {
    guard let file = files.first, files.count == 1 else {
      let found = files.isEmpty ? "no \(what)" : "\(files.count) \(what)s"
      throw .invalidData(
        "directory \(quotedName(directory.path)) has \(found) of Firecracker",
        hint: hint
      )
    }
    return file
  }
}
