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
  /// - Throws: ``VMCheckpointError`` when there are none, or several.
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
      guard statePath == nil, needsState, SourceDirectory.byteCount(ofFileAt: path) != nil
      else { return }
      let parent = FilePath(path).removingLastComponent()
      let directory = SourceDirectory(path: parent.isEmpty ? "." : parent.string)
      statePath = try Self.only(
        Self.states(in: directory),
        directory,
        what: "vmstate file",
        hint: "name the one that was written with the memory file with --vmstate"
      )
      return
    }
    let directory = SourceDirectory(path: path)
    let states = try Self.states(in: directory)
    statePath = givenStatePath
    if givenStatePath == nil {
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
