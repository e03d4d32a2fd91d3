import Glibc
import SystemPackage
import VMCheckpoint

/// A directory that a snapshot is restored as: files of RAM, and others whose bytes are known. It appears under
/// its name when it is complete.
struct RestoredDirectory {
  /// A file that does not hold RAM.
  struct File {
    var name: String
    var bytes: [UInt8]
    var isExecutable = false
  }

  /// The names of the files of ``ram``.
  var ramNames: [String]
  var ram: RestoredForm
  /// Written after RAM, in this order.
  var files: [File]

  /// Makes the directory.
  ///
  /// - Precondition: The target's output is a path, as ``requirePath(_:format:)`` checks.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; nothing is left then.
  func write(_ restore: Restoration) throws {
    guard case .file(let path) = restore.target.output else {
      preconditionFailure("the form checks the request")
    }
    try restore.writeDirectory { beforeCommit in
      try write(restore, at: path, beforeCommit: beforeCommit)
    }
  }

  /// Checks that a restore writes to a path, and that nothing is there.
  static func requirePath(
    _ target: RestoreTarget,
    format: String
  ) throws(VMCheckpointError) {
    guard case .file(let path) = target.output else {
      throw VMCheckpointError(
        .invalidArgument,
        "the format \(format) is a directory, and cannot be written to a stream",
        hint: "name a directory with -o"
      )
    }
    try requireNew(path)
  }

  private func write(
    _ restore: Restoration,
    at path: String,
    beforeCommit: () throws -> Void
  ) throws {
    let given = FilePath(path)
    guard let name = given.lastComponent, name.kind == .regular else {
      throw Self.cannotCreate(path, "it names no directory")
    }
    try Self.requireNew(path)
    let target = FilePath(try ResolvedPath.of(path))
    let stem = String(decoding: name.string.utf8.prefix(200), as: UTF8.self)
    let temporary = target.removingLastComponent()
      .appending(".\(stem).\(UniqueID.make().prefix(8)).tmp")
    guard mkdir(temporary.string, 0o700) == 0 else {
      throw Self.cannotCreate(path, "\(Errno(rawValue: errno))")
    }
    let names = ramNames + files.map(\.name)
    var isComplete = false
    defer {
      if !isComplete { Self.remove(temporary, names) }
    }
    func file(_ name: String) throws(VMCheckpointError) -> OutputFile {
      try OutputFile(
        path: temporary.appending(name).string,
        overwriting: false,
        shownAs: given.appending(name).string
      )
    }
    let outputs = try ramNames.map { try file($0) }
    try restore.writeRAM(ram, to: outputs)
    for output in outputs { try output.commit() }
    for member in files {
      let output = try file(member.name)
      try member.bytes.withUnsafeBytes { try output.write($0, at: 0) }
      try output.commit()
    }
    try beforeCommit()
    for member in files where member.isExecutable {
      guard chmod(temporary.appending(member.name).string, 0o700) == 0 else {
        throw Self.cannotCreate(path, "\(Errno(rawValue: errno))")
      }
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
      Self.remove(target, names)
      throw error
    }
  }

  private static func requireNew(_ path: String) throws(VMCheckpointError) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "\(quotedName(path)) exists already",
      hint: "give another path, or remove it; a directory is not replaced, not with --force either"
    )
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

/// Writes a directory whose files are all known beforehand.
struct DirectoryWriter: RestorationWriter {
  let directory: RestoredDirectory
  /// What the user is told of the restore.
  let warnings: @Sendable (Restoration) -> [String]

  func write(_ restore: Restoration) throws -> UInt64 {
    for warning in warnings(restore) { restore.control.onWarning?(warning) }
    try directory.write(restore)
    return directory.files.reduce(directory.ram.byteCount) { $0 + UInt64($1.bytes.count) }
  }
}
