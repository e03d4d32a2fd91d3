import SystemPackage

/// A flat RAM file.
struct FlatFileSource: CaptureSource {
  let file: String

  var path: String? { file }

  var names: CaptureNames {
    let name = CaptureNames.tellingComponent(of: file)
    return CaptureNames(snapshot: name, vm: name, description: "raw:\(file)")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let (descriptor, layout) = try FileRAMReader.openFile(path: file) {
      (byteCount) throws(VMCheckpointError) in
      try flatLayout(context.request.layout, fileByteCount: byteCount)
    }
    let files = OpenRAMFiles([.init(descriptor: descriptor, path: file)])
    return try use(CapturedGuest(layout: layout, files: files))
  }

  private func flatLayout(
    _ source: RAMLayoutSource,
    fileByteCount: UInt64
  ) throws(VMCheckpointError) -> RAMLayout {
    switch source {
    case .contiguous: try RAMLayout(contiguousByteCount: fileByteCount)
    case .qemu(let machine, let ramByteCount):
      try machine.layout(ramByteCount: ramByteCount ?? fileByteCount)
    case .regions(let layout): layout
    }
  }
}

/// Flat RAM from a pipe.
struct FlatStreamSource: CaptureSource {
  let fileDescriptor: Int32
  let name: String
  let inspector: StreamInspector?

  var path: String? { nil }

  var names: CaptureNames { CaptureNames(snapshot: name, vm: name, description: "raw:-") }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let layout = try streamLayout(context.request.layout)
    let cancellation = context.control.cancellation
    return try use(
      CapturedGuest(layout: layout) { _ throws(VMCheckpointError) in
        try StreamRAMReader(
          fileDescriptor: fileDescriptor,
          name: name,
          layout: layout,
          inspector: inspector,
          cancellation: cancellation
        )
      }
    )
  }

  private func streamLayout(_ source: RAMLayoutSource) throws(VMCheckpointError) -> RAMLayout? {
    switch source {
    case .contiguous: return nil
    case .regions(let layout): return layout
    case .qemu(let machine, let ramByteCount):
      guard let ramByteCount else {
        throw VMCheckpointError(
          .invalidArgument,
          "the RAM layout of a \(machine.rawValue) machine depends on the RAM's size, which a "
            + "stream shows only at its end",
          hint: "give the size with --ram-size"
        )
      }
      return try machine.layout(ramByteCount: ramByteCount)
    }
  }
}

/// Refuses streams by their first bytes. All count as equal: they say nothing of where RAM comes from.
package struct StreamInspector: Hashable, Sendable {
  package typealias Inspect =
    @Sendable (UnsafeRawBufferPointer) throws(VMCheckpointError) -> Void

  let inspect: Inspect

  package static func == (left: Self, right: Self) -> Bool { true }
  package func hash(into hasher: inout Hasher) {}
}

extension CaptureNames {
  /// Names, without what follows a dot, that VMMs and people give the RAM or the monitor of every VM.
  private static let commonStems: Set<String> = [
    "mem", "memfile", "mem_file", "memory", "memory-ranges", "monitor", "qmp", "qmp-sock",
    "qmp-socket", "ram",
    "vmem", "vmstate",
  ]
  /// Folders that are not a VM's.
  private static let commonFolders: Set<String> = [
    "/", "/dev/shm", "/home", "/mnt", "/root", "/run", "/srv", "/tmp", "/var/run", "/var/tmp",
  ]

  /// What a snapshot from the file at `path` is called: after the file, or after its folder where files of all VMs
  /// have the same name. Two VMs that are called the same would be taken for parent and child.
  package static func tellingComponent(of path: String) -> String {
    let last = lastComponent(of: path)
    let stem = last.prefix { $0 != "." }.lowercased()
    guard commonStems.contains(stem), let resolved = try? ResolvedPath.of(path) else { return last }
    let folder = FilePath(resolved).removingLastComponent()
    guard !commonFolders.contains(folder.string), let name = folder.lastComponent?.string else {
      return last
    }
    return name
  }

  /// What a snapshot from the file at `path` is called.
  package static func lastComponent(of path: String) -> String {
    FilePath(path).lastComponent?.string ?? "ram"
  }
}
