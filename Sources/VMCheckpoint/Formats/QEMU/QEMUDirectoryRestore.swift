import GRDB
import Glibc
import SystemPackage

/// Restores a snapshot as a directory to run the VM from: RAM, device state, and a script.
///
/// The state is a migration stream without RAM's pages: RAM that no stream brings stays as it is,
/// and so QEMU takes it from the file.
struct QEMUDirectoryRestore {
  /// The file of the block of RAM with this index.
  static func ramName(_ index: Int, of blockCount: Int) -> String {
    blockCount == 1 ? "ram" : "ram.\(index)"
  }
  static let stateName = "device.state"
  static let scriptName = "run.sh"

  private let request: RestoreRequest
  private let plan: RestorePlan
  private let clock: StageClock<RestoreStage>
  private let control: OperationControl
  private let path: String

  init(
    _ request: RestoreRequest,
    plan: RestorePlan,
    clock: StageClock<RestoreStage>,
    control: OperationControl
  ) throws(VMCheckpointError) {
    guard case .file(let path) = request.output else {
      throw VMCheckpointError(
        .invalidArgument,
        "the format qemu is a directory, and cannot be written to a stream",
        hint: "name a directory with -o"
      )
    }
    self.request = request
    self.plan = plan
    self.clock = clock
    self.control = control
    self.path = path
  }

  /// Makes the directory, which appears under its name when it is complete.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; nothing is left then.
  func run(_ database: Database, patches: [RAMPatch], beforeCommit: () throws -> Void) throws {
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
    let state = try QEMUStoredState(plan.snapshot, layout: plan.layout, database)
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
    var plan = plan
    plan.form = RestoredForm(plan.layout, fileByteCounts: blocks.map(\.byteCount))
    func file(_ name: String) throws(VMCheckpointError) -> OutputFile {
      try OutputFile(
        path: temporary.appending(name).string,
        overwriting: false,
        shownAs: given.appending(name).string
      )
    }
    let ram = try ramNames.map { try file($0) }
    try FileRestore(
      plan: plan,
      outputs: ram,
      verifiesPages: request.verifiesPages,
      clock: clock,
      control: control
    ).run(database, patches: patches)
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
    try sync(temporary.string)
    guard rename(temporary.string, target.string) == 0 else {
      throw Self.cannotCreate(path, "\(Errno(rawValue: errno))")
    }
    isComplete = true
    do {
      try sync(target.removingLastComponent().string)
    } catch {
      Self.remove(target, ramNames + [Self.stateName, Self.scriptName])
      throw error
    }
  }

  private func sync(_ directory: String) throws(VMCheckpointError) {
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
