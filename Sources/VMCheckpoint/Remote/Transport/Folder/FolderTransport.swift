import Glibc
import Synchronization
import SystemPackage

/// A remote in a folder: each object is a file of exactly its bytes, whose path is its key.
///
/// ```
/// packs/3f/…             objects
/// ~vmckpt/lock           flock: who changes something or reads the clock has it
/// ~vmckpt/clock          touched to read the file system's clock; holds the last reading
/// ~vmckpt/times/packs/…  when the object of this key was put
/// ~vmckpt/tmp/…          files that are being written
/// ```
///
/// A put writes and syncs a temporary file. Then, with the lock: the time record, synced; the rename, synced. So an
/// object that is visible after a crash has its record. One that was put in another's place and did not come to the
/// rename leaves the old bytes with the new time. Times of files themselves count for nothing: a copied folder has
/// new ones. An object without a record, such as one that was copied alone, was never committed.
///
/// A key that is the beginning of another, as `a` of `a/b`, cannot be put beside that.
package final class FolderTransport: RemoteTransport {
  package let title: String

  private let tree: FolderTree
  private let clock: FolderClock
  private let limit: RateLimit?
  private let counts = Mutex(RemoteRequestCounts())
  private let didClean = Atomic(false)

  /// - Parameters:
  ///   - path: Absolute.
  ///   - makesFolder: Whether the folder is made, with mode 0700, when it is missing; its parent must be there.
  ///   - limitBytesPerSecond: Of what is read and written; the folder may be on another machine.
  /// - Throws: ``VMCheckpointError``: `notFound` when there is no such folder, `cannotCreate` when it cannot be made,
  ///   `permissionDenied`, `inputOutput`.
  package init(
    path: String,
    makesFolder: Bool = false,
    limitBytesPerSecond: UInt64? = nil,
    cancellation: CancellationFlag = CancellationFlag()
  ) throws(VMCheckpointError) {
    title = "file://\(path)"
    limit = limitBytesPerSecond.map { RateLimit(bytesPerSecond: $0) }
    if makesFolder, mkdir(path, 0o700) != 0, errno != EEXIST {
      let error = Errno(rawValue: errno)
      let message = "cannot create the folder \(quotedName(path))"
      guard FolderTree.meansAbsent(error) else { throw Self.failure(message, error) }
      throw VMCheckpointError(
        .cannotCreate,
        "\(message): the folder that it is to be in is not there",
        hint: "make or mount that first"
      )
    }
    do throws(Errno) {
      tree = try FolderTree(path: path)
    } catch {
      guard FolderTree.meansAbsent(error) else {
        throw Self.failure("cannot open the folder \(quotedName(path))", error)
      }
      let reason = error == .notDirectory ? "is not a folder" : "does not exist"
      throw VMCheckpointError(.notFound, "the remote's folder \(quotedName(path)) \(reason)")
    }
    clock = FolderClock(tree: tree, cancellation: cancellation)
  }

  package var requestCounts: RemoteRequestCounts { counts.withLock { $0 } }

  // MARK: Put

  package func put(
    _ key: RemoteKey,
    _ body: UnsafeRawBufferPointer
  ) throws(VMCheckpointError) -> RemoteObjectFacts {
    counts.withLock {
      $0.puts += 1
      $0.sentByteCount += UInt64(body.count)
    }
    let parts = key.parts
    if !didClean.exchange(true, ordering: .relaxed) { removeAbandoned() }
    while true {
      let temporary = try write(body, for: key)
      defer { temporary.remove() }
      let seconds = try clock.withLock(writes: true) { () throws(VMCheckpointError) -> Int64? in
        let seconds = try clock.tick()
        try recordTime(seconds, of: key)
        return try move(temporary, to: parts[...], title: "object \(quotedName(key.text))")
          ? seconds : nil
      }
      guard let seconds else { continue }
      return RemoteObjectFacts(
        key: key,
        byteCount: UInt64(body.count),
        modifiedSeconds: seconds,
        serverSeconds: seconds
      )
    }
  }

  /// Writes and syncs a temporary file. Its lock shows that it is not abandoned.
  private func write(
    _ bytes: UnsafeRawBufferPointer,
    for key: RemoteKey
  ) throws(VMCheckpointError) -> TemporaryFile {
    let title = "cannot write object \(quotedName(key.text)) to \(quotedName(tree.path))"
    do throws(Errno) {
      let file = try TemporaryFile(in: tree.openFolder(Self.temporaryFolder[...], makes: true))
      var offset = 0
      // In parts, so that a slow disk does not keep a cancelled operation from ending.
      while offset < bytes.count {
        if clock.cancellation.isCancelled {
          file.remove()
          break
        }
        let count = min(limit?.partByteCount ?? 4 << 20, bytes.count - offset)
        limit?.wait(byteCount: count, cancellation: clock.cancellation)
        try FileIO.write(
          UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]),
          to: FileDescriptor(rawValue: file.descriptor),
          at: UInt64(offset)
        )
        offset += count
      }
      if offset == bytes.count {
        try file.sync()
        return file
      }
    } catch {
      throw Self.failure(title, error)
    }
    try clock.cancellation.check()
    throw VMCheckpointError(.cancelled, "interrupted")
  }

  /// Writes the time record of an object. With the lock.
  private func recordTime(_ seconds: Int64, of key: RemoteKey) throws(VMCheckpointError) {
    let record = FolderClock.text(seconds)
    // Files in the temporary folder may be taken for abandoned before they are locked; then again.
    while true {
      let result = record.withUnsafeBytes { bytes in
        Result { () throws(VMCheckpointError) in try write(bytes, for: key) }
      }
      let temporary = try result.get()
      defer { temporary.remove() }
      let title = "the time of object \(quotedName(key.text))"
      if try move(temporary, to: (Self.timesFolder + key.parts)[...], title: title) { return }
    }
  }

  /// Gives a temporary file its place, which lasts.
  ///
  /// - Returns: Whether the file was still there.
  private func move(
    _ file: TemporaryFile,
    to parts: ArraySlice<Substring>,
    title: String
  ) throws(VMCheckpointError) -> Bool {
    do throws(Errno) {
      let folder = try tree.openFolder(parts.dropLast(), makes: true)
      defer { close(folder) }
      guard try file.rename(to: String(parts.last!), in: folder) else { return false }
      if let error = FolderTree.syncFolder(folder) { throw error }
      return true
    } catch {
      if [.isDirectory, .notDirectory, .fileExists, .directoryNotEmpty].contains(error) {
        throw VMCheckpointError(
          .cannotCreate,
          "cannot put \(title) into \(quotedName(tree.path)): something else has its name",
          hint: "remove what is there and was not put there by vmckpt"
        )
      }
      throw Self.failure("cannot put \(title) into \(quotedName(tree.path))", error)
    }
  }

  // MARK: Read

  package func head(_ key: RemoteKey) throws(VMCheckpointError) -> RemoteObjectFacts? {
    counts.withLock { $0.heads += 1 }
    return try clock.withLock(writes: false) { () throws(VMCheckpointError) in
      let now = try clock.tick()
      return try withObject(key) { _, status throws(VMCheckpointError) in
        try facts(of: key, status, now: now)
      }
    }
  }

  package func get(
    _ key: RemoteKey,
    _ range: RemoteRange,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> RemoteRead? {
    let read = try withObject(key) { file, status throws(VMCheckpointError) -> RemoteRead in
      // Not the present, which needs the lock: the last reading is not after it.
      let facts = try facts(of: key, status, now: clock.lastReading())
      let wanted = range.bounds(ofObjectWith: facts.byteCount)
      let total = min(wanted.count, buffer.count)
      var done = 0
      while done < total {
        try clock.cancellation.check()
        let end = min(total, done + (limit?.partByteCount ?? 4 << 20))
        limit?.wait(byteCount: end - done, cancellation: clock.cancellation)
        let count: Int
        do throws(Errno) {
          count = try FileIO.read(
            into: UnsafeMutableRawBufferPointer(rebasing: buffer[done..<end]),
            from: FileDescriptor(rawValue: file),
            at: wanted.lowerBound + UInt64(done)
          )
        } catch {
          throw failure("read", key, error)
        }
        if count == 0 { break }
        done += count
      }
      return RemoteRead(readByteCount: done, facts: facts)
    }
    counts.withLock {
      $0.gets += 1
      $0.receivedByteCount += UInt64(read?.readByteCount ?? 0)
    }
    return read
  }

  package func list(
    _ prefix: String,
    after start: RemoteKey?,
    _ body: ([RemoteObjectFacts]) throws(VMCheckpointError) -> Bool
  ) throws(VMCheckpointError) {
    let now = try clock.withLock(writes: false) { () throws(VMCheckpointError) in try clock.tick() }
    var listing = FolderListing(
      tree: tree,
      start: try RemoteListing.parts(ofPrefix: prefix),
      after: start,
      cancellation: clock.cancellation
    )
    while true {
      counts.withLock { $0.lists += 1 }
      var batch: [RemoteObjectFacts] = []
      var isAtEnd = false
      while batch.count < RemoteListing.maximumBatchCount {
        guard let key = try listing.next() else {
          isAtEnd = true
          break
        }
        let found = try withObject(key) { _, status throws(VMCheckpointError) in
          try facts(of: key, status, now: now)
        }
        guard let found else { continue }
        // Whoever deletes removes the record last.
        if !found.isCommitted, try !isThere(key) { continue }
        batch.append(found)
      }
      if !batch.isEmpty, try !body(batch) { return }
      if isAtEnd { return }
    }
  }

  private func isThere(_ key: RemoteKey) throws(VMCheckpointError) -> Bool {
    try withObject(key) { _, _ throws(VMCheckpointError) in true } ?? false
  }

  /// Runs `body` with the object open; `nil` when there is none.
  private func withObject<Result>(
    _ key: RemoteKey,
    _ body: (Int32, stat) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result? {
    let opened: (descriptor: Int32, status: stat)?
    do throws(Errno) {
      opened = try tree.openFile(key.parts)
    } catch {
      throw failure("open", key, error)
    }
    guard let opened else { return nil }
    defer { close(opened.descriptor) }
    return try body(opened.descriptor, opened.status)
  }

  private func facts(
    of key: RemoteKey,
    _ status: stat,
    now: Int64
  ) throws(VMCheckpointError) -> RemoteObjectFacts {
    var recorded: Int64?
    do throws(Errno) {
      if let (file, _) = try tree.openFile(Self.timesFolder + key.parts) {
        recorded = FolderClock.recorded(in: file)
        close(file)
      }
    } catch {
      throw failure("open the time of", key, error)
    }
    return RemoteObjectFacts(
      key: key,
      byteCount: UInt64(status.st_size),
      modifiedSeconds: recorded ?? RemoteObjectFacts.neverCommitted,
      serverSeconds: now
    )
  }

  // MARK: Delete

  package func delete(_ key: RemoteKey) throws(VMCheckpointError) {
    counts.withLock { $0.deletes += 1 }
    try clock.withLock(writes: true) { () throws(VMCheckpointError) in
      do throws(Errno) {
        // The record last: an object without one would never have been committed.
        try remove(key.parts)
        try remove(Self.timesFolder + key.parts)
      } catch {
        throw failure("delete", key, error)
      }
    }
  }

  /// Removes a file, and the folders above it that are empty then. With the lock.
  private func remove(_ parts: [Substring]) throws(Errno) {
    var parts = parts[...]
    var flags: Int32 = 0
    while let name = parts.popLast() {
      let folder: Int32
      do throws(Errno) {
        folder = try tree.openFolder(parts)
      } catch {
        guard FolderTree.meansAbsent(error) else { throw error }
        flags = AT_REMOVEDIR
        continue
      }
      defer { close(folder) }
      if unlinkat(folder, String(name), flags) != 0 {
        let error = Errno(rawValue: errno)
        // A folder that has other files, or a folder in place of an object.
        if flags != 0 || error == .isDirectory { return }
        if !FolderTree.meansAbsent(error) { throw error }
      } else if flags == 0, let error = FolderTree.syncFolder(folder) {
        throw error
      }
      flags = AT_REMOVEDIR
      // The remote's own folders stay.
      if parts.count == Self.timesFolder.count, parts[0] == FolderClock.folderName { return }
    }
  }

  // MARK: Parts

  private static let timesFolder = [Substring(FolderClock.folderName), "times"]
  private static let temporaryFolder = [Substring(FolderClock.folderName), "tmp"]

  /// Removes what puts left that were killed: what nobody has locked.
  private func removeAbandoned() {
    guard let folder = try? tree.openFolder(Self.temporaryFolder[...]) else { return }
    TemporaryFile.removeAbandoned(in: folder)
  }

  private func failure(_ verb: String, _ key: RemoteKey, _ error: Errno) -> VMCheckpointError {
    Self.failure(
      "cannot \(verb) object \(quotedName(key.text)) of the folder \(quotedName(tree.path))",
      error
    )
  }

  static func failure(_ message: String, _ error: Errno) -> VMCheckpointError {
    let (code, hint): (VMCheckpointError.Code, String?) =
      switch error {
      case .permissionDenied, .notPermitted, .readOnlyFileSystem: (.permissionDenied, nil)
      case .noSpace, .diskQuotaExceeded: (.inputOutput, "free some space and try again")
      case .fileNameTooLong: (.invalidArgument, nil)
      default: (.inputOutput, nil)
      }
    return VMCheckpointError(code, "\(message): \(error)", hint: hint).orOutOfResources(error)
  }
}
