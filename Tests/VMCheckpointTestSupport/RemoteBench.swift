import Glibc

/// A remote in a folder, and hosts with a store each.
package struct RemoteBench {
  package let directory: TemporaryDirectory
  package let address: String

  /// The remote is not made yet.
  package init() throws {
    directory = try TemporaryDirectory()
    address = "file://\(directory.file("remote"))"
  }

  /// The remote's folder.
  package var folder: String { directory.file("remote") }

  /// A host whose store is called `name`; its remote is added, or made by the first.
  package func host(_ name: String, leaseSeconds: Int = 3600, marginSeconds: Int = 1) throws
    -> VMCkptTool
  {
    let tool = try VMCkptTool(storePath: directory.file("\(name).db"))
    if exists("\(folder)/remote.json") {
      try tool.succeed("remote", "add", address)
    } else {
      try tool.succeed(
        "remote",
        "init",
        address,
        "--lease-seconds",
        "\(leaseSeconds)",
        "--margin-seconds",
        "\(marginSeconds)"
      )
    }
    return tool
  }

  /// Saves RAM as a snapshot of a VM.
  package func save(
    _ name: String,
    _ ram: [UInt8],
    vm: String = "vm",
    _ options: [String] = [],
    on tool: VMCkptTool
  ) throws {
    let path = directory.file("source.ram")
    try writeSparseFile(path, ram)
    let outcome = try tool.start(["save", path, "--name", name, "--vm", vm] + options).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
  }

  /// Lets so many seconds pass by the clock of the remote's folder, which never goes back.
  package func passTime(seconds: Int) throws {
    let path = "\(folder)/~vmckpt/clock"
    guard let last = Int(String(decoding: try readFile(path), as: UTF8.self).dropLast()) else {
      throw TestSetupError("\(path) has no time")
    }
    let digits = "\(last + seconds)"
    try patchFile(
      path,
      at: 0,
      Array((String(repeating: "0", count: 12 - digits.count) + digits + "\n").utf8)
    )
  }

  /// The packs of the remote, by path.
  package var packs: [String] {
    let folder = "\(folder)/packs"
    return directoryEntries(folder).flatMap { part in
      directoryEntries("\(folder)/\(part)").map { "\(folder)/\(part)/\($0)" }
    }.sorted()
  }

  /// The paths of objects in a folder of the remote, below it at any depth.
  package func objects(_ name: String) -> [String] {
    func walk(_ path: String) -> [String] {
      var status = stat()
      // An empty folder has no objects.
      guard lstat(path, &status) == 0 else { return [] }
      guard status.st_mode & S_IFMT == S_IFDIR else { return [path] }
      return directoryEntries(path).flatMap { walk("\(path)/\($0)") }
    }
    return walk("\(folder)/\(name)").sorted()
  }
}

extension ProcessOutcome {
  /// Standard output as text.
  package var standardOutputText: String { String(decoding: standardOutput, as: UTF8.self) }
}
