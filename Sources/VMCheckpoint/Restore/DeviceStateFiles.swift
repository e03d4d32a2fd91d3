import Glibc
import SystemPackage

/// A snapshot's device states on their way into a directory, a file each, which get their names together.
final class DeviceStateFiles {
  private let outputs: [OutputFile]
  /// The directory, if it was made for them.
  private let madeDirectory: String?
  private var isCommitted = false

  /// Writes the files, which have no names yet.
  ///
  /// - Throws: ``VMCheckpointError``; the directory is as it was then.
  init(
    _ states: [DeviceState],
    in directory: String,
    overwriting: Bool
  ) throws(VMCheckpointError) {
    var madeDirectory: String?
    if mkdir(directory, 0o700) == 0 {
      madeDirectory = directory
    } else if errno != EEXIST {
      throw VMCheckpointError(
        errno == EACCES || errno == EPERM ? .permissionDenied : .cannotCreate,
        "cannot make directory \(quotedName(directory)): \(Errno(rawValue: errno))"
      )
    }
    do throws(VMCheckpointError) {
      var outputs: [OutputFile] = []
      for (index, state) in states.enumerated() {
        let name = PathComponent.of(state.name) ?? "state.\(index)"
        let output = try OutputFile(
          path: FilePath(directory).appending(name).string,
          overwriting: overwriting
        )
        try output.write(state)
        outputs.append(output)
      }
      self.outputs = outputs
    } catch {
      if let madeDirectory { rmdir(madeDirectory) }
      throw error
    }
    self.madeDirectory = madeDirectory
  }

  deinit {
    if !isCommitted, let madeDirectory { rmdir(madeDirectory) }
  }

  var count: Int { outputs.count }

  /// Gives the files their names.
  ///
  /// - Throws: ``VMCheckpointError``; new files are removed again then, and those that were replaced stay so.
  func commit() throws(VMCheckpointError) {
    do throws(VMCheckpointError) {
      for output in outputs { try output.commit() }
    } catch {
      for output in outputs { output.withdraw() }
      throw error
    }
    isCommitted = true
  }
}

extension OutputFile {
  /// Writes a device state's bytes from the file's beginning.
  fileprivate func write(_ state: DeviceState) throws(VMCheckpointError) {
    // Array's own closures only rethrow untyped errors.
    let written = state.data.withUnsafeBytes { bytes in
      Result { () throws(VMCheckpointError) in try write(bytes, at: 0) }
    }
    try written.get()
  }
}

extension Store {
  /// Writes one device state of a snapshot as the VMM wrote it: to a file with mode 0600, which appears under its
  /// name only when it is complete, or to a stream.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound` for the snapshot or the device state, `corrupt` when its SHA-256
  ///   is not right, `cannotCreate`, `inputOutput`.
  public func writeDeviceState(
    named name: String,
    of reference: SnapshotReference,
    to output: RAMOutput,
    overwriting: Bool = false
  ) throws(VMCheckpointError) -> (snapshot: String, state: DeviceState) {
    let (snapshot, found) = try read { database in
      let snapshot = try SnapshotCatalog.resolve(reference, in: database)
      return (snapshot, try DeviceStateRow.load(of: snapshot, named: name, database).first)
    }
    guard let found else {
      throw VMCheckpointError(
        .notFound,
        "\(snapshot.title) has no device state \(quotedName(name))",
        hint: "see which it has with: vmckpt show"
      )
    }
    switch output {
    case .file(let path):
      try requireNotStore(path)
      let file = try OutputFile(path: path, overwriting: overwriting)
      try file.write(found)
      try file.commit()
    case .stream(let fileDescriptor):
      let sink = StreamWriter(fileDescriptor: fileDescriptor, cancellation: CancellationFlag())
      let written = found.data.withUnsafeBytes { bytes in
        Result { () throws(VMCheckpointError) in try sink.write(bytes) }
      }
      try written.get()
    }
    return (snapshot.name, found)
  }
}
