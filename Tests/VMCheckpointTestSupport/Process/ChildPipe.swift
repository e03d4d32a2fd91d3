import Glibc

/// A pipe to or from a child process.
package final class ChildPipe {
  package private(set) var reader: Int32
  private var writer: Int32

  package init() throws {
    // A named one: only open() can make both ends close-on-exec from their first moment, so that
    // no child of another test holds the pipe open.
    let directory = try TemporaryDirectory()
    let path = directory.file("pipe")
    mkfifo(path, 0o600)
    reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    writer = open(path, O_WRONLY | O_CLOEXEC)
    guard reader >= 0, writer >= 0, fcntl(reader, F_SETFL, 0) == 0 else {
      throw TestSetupError("cannot make a pipe")
    }
    // A reader that dies must not end the test process.
    signal(SIGPIPE, SIG_IGN)
  }

  deinit {
    closeReader()
    closeWriter()
  }

  /// The writer is told that nobody reads any more, once no child has the reading end either.
  package func closeReader() {
    if reader >= 0 { close(reader) }
    reader = -1
  }

  /// Writes all; waits for the reader where the pipe is full.
  package func write(_ bytes: [UInt8]) throws {
    try writeAll(writer, bytes, path: "a pipe")
  }

  /// The writing end, for a child that writes.
  package var writerForChild: Int32 { writer }

  /// How much was written and not yet read.
  package var waitingByteCount: Int {
    var count: Int32 = 0
    return ioctl(reader, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
  }

  /// Reads what is there, at most `byteCount` bytes; waits for the first.
  package func read(upTo byteCount: Int) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      let result = Glibc.read(reader, buffer.baseAddress, byteCount)
      guard result >= 0 else { throw TestSetupError("cannot read from a pipe") }
      count = result
    }
  }

  /// Reads until every writer has closed its end.
  package func readToEnd() throws -> [UInt8] {
    var bytes: [UInt8] = []
    while true {
      let block = try read(upTo: 64 << 10)
      guard !block.isEmpty else { return bytes }
      bytes += block
    }
  }

  /// The reader sees the end, once no child has the writing end either.
  package func closeWriter() {
    if writer >= 0 { close(writer) }
    writer = -1
  }
}

/// Waits until `condition` holds. The time is for a machine that does much else, and costs nothing on others.
package func waitUntil(
  _ what: String,
  timeoutSeconds: Double = patienceSeconds,
  _ condition: () throws -> Bool
) throws {
  let deadline = monotonicSeconds() + timeoutSeconds
  while try !condition() {
    guard monotonicSeconds() < deadline else {
      throw TestSetupError("this did not come about: \(what)")
    }
    usleep(2000)
  }
}
