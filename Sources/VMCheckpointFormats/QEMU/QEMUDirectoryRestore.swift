import Glibc
import SystemPackage
import VMCheckpoint

/// Restores a snapshot as a directory to run the VM from: RAM, device state, and a script.
///
/// The state is a migration stream without RAM's pages: RAM that no stream brings stays as it is,
/// and so QEMU takes it from the file.
struct QEMUDirectoryRestore: RestorationWriter {
  /// The file of the block of RAM with this index.
  static func ramName(_ index: Int, of blockCount: Int) -> String {
    blockCount == 1 ? "ram" : "ram.\(index)"
  }
  static let stateName = "device.state"
  static let scriptName = "run.sh"

  let state: QEMUStoredState

  func write(_ restore: Restoration) throws -> UInt64 {
    guard case .file(let path) = restore.request.output else {
      preconditionFailure("the form checks the request")
    }
    try restore.writeDirectory { beforeCommit in
      try write(restore, at: path, beforeCommit: beforeCommit)
    }
    return restore.layout.fileByteCount
  }

  /// Makes the directory, which appears under its name when it is complete.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; nothing is left then.
  private func write(
    _ restore: Restoration,
    at path: String,
    beforeCommit: () throws -> Void
  ) throws {
    let given = FilePath(path)
    guard let name = given.lastComponent, name.kind == .regular else {
      throw Self.cannotCreate(path, "it names no directory")
    }
    var status = stat()
    guard lstat(path, &status) != 0 else {
      throw VMCheckpointError(
        .cannotCreate,
        "\(quotedName(path)) exists already",
        hint:
          "give another path, or remove it; a directory is not replaced, not with --force either"
      )
    }
    let target = FilePath(try ResolvedPath.of(path))
    let scriptText = try QEMURunScript(state.record).text()
    let stem = String(decoding: name.string.utf8.prefix(200), as: UTF8.self)
    let temporary = target.removingLastComponent()
      .appending(".\(stem).\(UniqueID.make().prefix(8)).tmp")
    guard mkdir(temporary.string, 0o700) == 0 else {
      throw Self.cannotCreate(path, "\(Errno(rawValue: errno))")
    }
    let blocks = state.record.ramBlocks
    let ramNames = blocks.indices.map { Self.ramName($0, of: blocks.count) }
    var isComplete = false
    defer {
      if !isComplete { Self.remove(temporary, ramNames + [Self.stateName, Self.scriptName]) }
    }
    func file(_ name: String) throws(VMCheckpointError) -> OutputFile {
      try OutputFile(
        path: temporary.appending(name).string,
        overwriting: false,
        shownAs: given.appending(name).string
      )
    }
    let ram = try ramNames.map { try file($0) }
    try restore.writeRAM(
      RestoredForm(restore.layout, fileByteCounts: blocks.map(\.byteCount)),
      to: ram
    )
    for file in ram { try file.commit() }
    let stateFile = try file(Self.stateName)
    try state.stream.withUnsafeBytes { try stateFile.write($0, at: 0) }
    try stateFile.commit()
    let scriptPath = temporary.appending(Self.scriptName).string
    let script = try file(Self.scriptName)
    try script.write(scriptText)
    try script.commit()
    try beforeCommit()
    guard chmod(scriptPath, 0o700) == 0 else {
      throw Self.cannotCreate(path, "\(Errno(rawValue: errno))")
    }
    // The files' names must be on disk before the directory's is.
    try sync(temporary.string, of: path)
    guard rename(temporary.string, target.string) == 0 else {
      throw Self.cannotCreate(path, "\(Errno(rawValue: errno))")
    }
    isComplete = true
    do {
      try sync(target.removingLastComponent().string, of: path)
    } catch {
      Self.remove(target, ramNames + [Self.stateName, Self.scriptName])
      throw error
    }
  }

  private func sync(_ directory: String, of path: String) throws(VMCheckpointError) {
    do throws(Errno) {
      try DirectorySync.sync(directory)
    } catch {
      throw VMCheckpointError(
        .inputOutput,
        "cannot sync the directory of \(quotedName(path)) to disk: \(error)",
        hint: "what was written was removed; look at the disk, and try again"
      )
    }
  }

  private static func remove(_ directory: FilePath, _ names: [String]) {
    for name in names { unlink(directory.appending(name).string) }
    rmdir(directory.string)
  }

  private static func cannotCreate(_ path: String, _ reason: String) -> VMCheckpointError {
    VMCheckpointError(.cannotCreate, "cannot create \(quotedName(path)): \(reason)")
  }
}
