import Glibc
import SystemPackage

/// The lock and the clock of a folder that is a remote.
///
/// The clock is the file system's: of a file that was just touched, the time of its last change. On NFS that is the
/// server's, so that all hosts share one. It never goes backwards, since the last reading is kept in the file.
///
/// Whoever reads the clock has the lock, and so has whoever makes an object visible, from the moment that its time is
/// read on. So when the clock shows a time, each object with an earlier time is visible already, even if a host was
/// suspended in the middle of a put.
struct FolderClock: Sendable {
  /// The folder of the remote's own records. No part of a key has a `~`.
  static let folderName = "~vmckpt"
  private static let lockName = "lock"
  private static let clockName = "clock"
  /// Later readings are taken for damage: year 9999.
  static let maximumSeconds: Int64 = 253_402_300_799

  let tree: FolderTree
  let cancellation: CancellationFlag

  /// Runs `body` while this thread has the lock; other hosts, processes and threads wait for it.
  ///
  /// - Parameter writes: Whether the folder is to be changed. If it is not, and cannot be changed, there is nobody
  ///   to lock out.
  func withLock<Result>(
    writes: Bool,
    _ body: () throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    let lock: Int32
    do throws(Errno) {
      lock = try openOwn(Self.lockName, makes: true)
    } catch {
      guard !writes, Self.cannotChange(error) else { throw failure("lock", error) }
      return try body()
    }
    defer { close(lock) }
    try wait(for: lock)
    return try body()
  }

  /// The time, in seconds since 1970. Only with the lock.
  ///
  /// In a folder that cannot be changed time does not pass: it is the last reading.
  func tick() throws(VMCheckpointError) -> Int64 {
    let file: Int32
    do throws(Errno) {
      file = try openOwn(Self.clockName, makes: true)
    } catch {
      guard Self.cannotChange(error) else { throw failure("read the clock of", error) }
      return try lastReading()
    }
    defer { close(file) }
    // Both times become the present of whoever keeps the file: NFS asks the server.
    var status = stat()
    guard futimens(file, nil) == 0, fstat(file, &status) == 0 else {
      throw failure("read the clock of", Errno(rawValue: errno))
    }
    let last = Self.recorded(in: file) ?? 0
    let present = min(Int64(status.st_mtim.tv_sec), Self.maximumSeconds)
    guard present > last else { return last }
    do throws(Errno) {
      try Self.record(present, in: file)
    } catch {
      throw failure("write to", error)
    }
    // At most once a second: after a crash, and with a clock that was set back, no time comes again.
    guard fsync(file) == 0 else { throw failure("write to", Errno(rawValue: errno)) }
    return present
  }

  /// The last reading, without the lock; 0 when the clock was never read.
  func lastReading() throws(VMCheckpointError) -> Int64 {
    do throws(Errno) {
      let parts = [Substring(Self.folderName), Substring(Self.clockName)]
      guard let (file, _) = try tree.openFile(parts) else { return 0 }
      defer { close(file) }
      return Self.recorded(in: file) ?? 0
    } catch {
      throw failure("read the clock of", error)
    }
  }

  // MARK: A time in a file

  /// Twelve digits and a newline, such as `001790000000`: a file that was cut short has no newline.
  static func text(_ seconds: Int64) -> [UInt8] {
    let digits = String(max(0, seconds))
    return Array((String(repeating: "0", count: max(0, 12 - digits.count)) + digits + "\n").utf8)
  }

  /// `nil` for anything else.
  static func seconds(_ text: some BidirectionalCollection<UInt8>) -> Int64? {
    guard text.count == 13, text.last == UInt8(ascii: "\n") else { return nil }
    var value: Int64 = 0
    for byte in text.dropLast() {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
      value = value * 10 + Int64(byte - UInt8(ascii: "0"))
    }
    return value <= maximumSeconds ? value : nil
  }

  /// What an open file records; `nil` when it holds something else.
  static func recorded(in file: Int32) -> Int64? {
    withUnsafeTemporaryAllocation(byteCount: 14, alignment: 1) { buffer in
      let descriptor = FileDescriptor(rawValue: file)
      guard let count = try? FileIO.read(into: buffer, from: descriptor, at: 0) else { return nil }
      return seconds(buffer[..<count])
    }
  }

  /// Records a time in an open file.
  static func record(_ seconds: Int64, in file: Int32) throws(Errno) {
    let text = text(seconds)
    let result = text.withUnsafeBytes { bytes in
      Result { () throws(Errno) in
        try FileIO.write(bytes, to: FileDescriptor(rawValue: file), at: 0)
      }
    }
    try result.get()
  }

  // MARK: Parts

  private static func cannotChange(_ error: Errno) -> Bool {
    [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
  }

  /// Opens one of the remote's own files to read and write it.
  private func openOwn(_ name: String, makes: Bool) throws(Errno) -> Int32 {
    let folder = try tree.openFolder([Substring(Self.folderName)][...], makes: makes)
    defer { close(folder) }
    let file = openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0o600)
    if file < 0 { throw Errno(rawValue: errno) }
    return file
  }

  /// Waits for the lock, asking again and again: a signal cannot end a wait in the kernel for sure.
  private func wait(for lock: Int32) throws(VMCheckpointError) {
    let deadline = MonotonicClock.nowSeconds + cancellation.lockWaitSeconds
    var pauseMicroseconds: UInt32 = 200
    while flock(lock, LOCK_EX | LOCK_NB) != 0 {
      let error = errno
      guard error == EWOULDBLOCK || error == EINTR else {
        throw failure("lock", Errno(rawValue: error))
      }
      try cancellation.check()
      guard MonotonicClock.nowSeconds < deadline else {
        throw VMCheckpointError(
          .locked,
          "another process or host holds the lock of the folder \(quotedName(tree.path))",
          hint: "try again when it has ended"
        )
      }
      usleep(pauseMicroseconds)
      pauseMicroseconds = min(pauseMicroseconds * 2, 20_000)
    }
  }

  private func failure(_ verb: String, _ error: Errno) -> VMCheckpointError {
    FolderTransport.failure("cannot \(verb) the folder \(quotedName(tree.path))", error)
  }
}
