import CLinux
import Glibc
import Synchronization
import SystemPackage
import VMCheckpoint

/// Decompresses what follows in a file or stream into a pipe, on a thread of its own.
///
/// The reader of ``descriptor`` sees the data end where an error comes up; ``finish()`` says which one.
final class DecompressingPipe: DecodingPipe {
  private static let bufferByteCount = 256 << 10

  /// The end to read from.
  let descriptor: Int32
  private let outcome = Mutex<VMCheckpointError?>(nil)
  private let thread = Mutex<WorkerThreads?>(nil)

  /// Starts to decompress what comes from `source`, which stays the caller's.
  ///
  /// - Throws: ``VMCheckpointError``: `unavailable` when the library is missing, `outOfResources`.
  init(_ method: CompressionMethod, from source: StreamReader) throws(VMCheckpointError) {
    // Used by the thread alone.
    nonisolated(unsafe) let decompressor = try method.makeDecompressor()
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      throw VMCheckpointError(.outOfResources, "cannot make a pipe: \(Errno(rawValue: errno))")
    }
    descriptor = ends[0]
    let output = ends[1]
    do throws(VMCheckpointError) {
      let started = try WorkerThreads(count: 1) { [self] in
        do throws(VMCheckpointError) {
          try Self.run(decompressor, method, from: source, to: output)
        } catch {
          outcome.withLock { $0 = error }
        }
        close(output)
      }
      thread.withLock { $0 = started }
    } catch {
      close(ends[0])
      close(output)
      throw error
    }
  }

  /// Waits for the thread, after the pipe was read as far as its reader wanted.
  ///
  /// - Returns: What went wrong with the data or its source, if anything did.
  func finish() -> VMCheckpointError? {
    // Whatever is still to come finds no reader, and the thread ends.
    close(descriptor)
    thread.withLock { $0.take()?.join() }
    return outcome.withLock { $0 }
  }

  private static func run(
    _ decompressor: any Decompressor,
    _ method: CompressionMethod,
    from source: StreamReader,
    to descriptor: Int32
  ) throws(VMCheckpointError) {
    let memory = try LargeMemory.allocate(byteCount: 2 * bufferByteCount)
    defer { LargeMemory.free(memory) }
    let input = UnsafeMutableRawBufferPointer(rebasing: memory[..<bufferByteCount])
    let output = UnsafeMutableRawBufferPointer(rebasing: memory[bufferByteCount...])
    let writer = StreamWriter(fileDescriptor: descriptor, cancellation: source.cancellation)
    var isInStream = true
    var hasData = false
    while true {
      let count = try source.read(into: input)
      guard count > 0 else {
        guard !isInStream || !hasData else {
          throw .invalidData("\(source.name) ends in the middle of its \(method.rawValue) data")
        }
        return
      }
      hasData = true
      var rest = UnsafeRawBufferPointer(rebasing: input[..<count])
      var isOutputFull = false
      while !rest.isEmpty || isOutputFull {
        // Padding of zeros may follow a stream.
        if !isInStream {
          rest = UnsafeRawBufferPointer(rebasing: rest.drop { $0 == 0 })
          if rest.isEmpty { break }
          try decompressor.restart()
          isInStream = true
        }
        let step: DecompressionStep
        do throws(VMCheckpointError) {
          step = try decompressor.decompress(rest, into: output)
        } catch {
          throw VMCheckpointError(error.code, "\(source.name): \(error.message)", hint: error.hint)
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[step.consumedByteCount...])
        let made = UnsafeRawBufferPointer(rebasing: output[..<step.producedByteCount])
        if !made.isEmpty {
          do throws(VMCheckpointError) {
            try writer.write(made)
          } catch {
            // Nobody reads any more, who has reasons of his own; cancelling is one.
            try source.cancellation.check()
            return
          }
        }
        isInStream = !step.isEndOfStream
        isOutputFull = isInStream && made.count == output.count
        guard step.consumedByteCount > 0 || !made.isEmpty || rest.isEmpty || !isInStream else {
          throw method.damaged
        }
      }
    }
  }
}
