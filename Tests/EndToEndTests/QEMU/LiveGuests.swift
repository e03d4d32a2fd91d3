import Foundation
import Testing
import VMCheckpointTestSupport

extension Workbench {
  /// Restores a snapshot as a directory, under a name that needs quotation marks everywhere.
  func restoredDirectory(_ reference: String) throws -> String {
    let path = directory.file("restored, it's \(UUID().uuidString)")
    try tool.succeed("restore", reference, "--format", "qemu", "-o", path)
    return path
  }

  /// Starts `count` guests from a restored directory, each with a console of its own.
  func clones(from path: String, _ count: Int) throws -> [CountingGuest] {
    try (0..<count).map { _ in
      let place = try directory.subdirectory("clone-\(UUID().uuidString)")
      return try CountingGuest(script: "\(path)/run.sh", workingDirectory: place)
    }
  }

  /// Restores a directory and starts `count` guests from it.
  func clones(_ reference: String, _ count: Int) throws -> [CountingGuest] {
    try clones(from: restoredDirectory(reference), count)
  }

  /// What QEMU's `exec:` is given to run `vmckpt`. None of the words may mean something to a shell.
  func shellCommand(_ arguments: String...) -> String {
    "exec:" + tool.commandLine(arguments).joined(separator: " ")
  }
}

extension QMPConnection {
  /// Capabilities and parameters of the migration, which the user may have set for other purposes.
  func migrationSettings() throws -> [String: Int] {
    var settings: [String: Int] = [:]
    for entry in try run("query-migrate-capabilities") as? [[String: Any]] ?? [] {
      settings[entry["capability"] as? String ?? ""] = entry["state"] as? Bool == true ? 1 : 0
    }
    let parameters = try run("query-migrate-parameters") as? [String: Any] ?? [:]
    for name in ["max-bandwidth", "downtime-limit"] { settings[name] = parameters[name] as? Int }
    return settings
  }

  /// How much the last migration sent of RAM.
  func sentRAMByteCount() throws -> Int {
    let migration = try run("query-migrate") as? [String: Any]
    return (migration?["ram"] as? [String: Any])?["transferred"] as? Int ?? 0
  }
}

extension [CountingGuest.Count] {
  /// Whether these numbers are of the guest that printed `original`: they go on without a gap from
  /// one of its last `slack` numbers, with the nonce that is only in RAM.
  func areOne(with original: [CountingGuest.Count], slack: Int) -> Bool {
    guard let first, let last = original.last else { return false }
    let earlier = original.filter { $0.number < first.number }
    return first.number > last.number - slack && first.number <= last.number + 1
      && goOn(from: earlier)
  }
}

extension [CountingGuest.Count] {
  /// The slack of a guest that had printed these numbers when it was last seen to be the one that is restored, and
  /// `later` when it was looked at again. One number may have been on its way.
  func slack(until later: [CountingGuest.Count]) -> Int {
    (later.last?.number ?? 0) - (last?.number ?? 0) + 2
  }
}

/// Damage to a guest that it must notice.
extension Data {
  /// RAM, alone or in a stream, with one byte of `nonce` changed wherever the guest keeps it.
  func withWrong(nonce: String) throws -> Data {
    var damaged = self
    var start = damaged.startIndex
    while let found = damaged.range(of: Data(nonce.utf8), in: start..<damaged.endIndex) {
      damaged[found.lowerBound] = nonce.utf8.first == 0x30 ? 0x31 : 0x30
      start = found.upperBound
    }
    try #require(damaged != self)
    return damaged
  }

  /// A stream, with or without RAM, in which one byte is wrong of where the CPU finds its interrupt
  /// handlers, which the next tick of the timer needs. (The instruction pointer may be that of a
  /// process that the guest can do without.)
  func withWrongInterruptTable() throws -> Data {
    var damaged = self
    let header = Data([3] + Array("cpu".utf8) + [0, 0, 0, 0])
    let section = try #require(range(of: header, options: .backwards))
    let address = section.upperBound + 4 + 420
    try #require(damaged[address..<(address + 8)].elementsEqual([0xff, 0xff, 0xfe, 0, 0, 0, 0, 0]))
    damaged[address] ^= 0x80
    return damaged
  }
}
