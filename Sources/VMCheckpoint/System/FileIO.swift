import Glibc
package import SystemPackage

/// Whole ranges of a file: the system calls may do less than they are asked for.
package enum FileIO {
  /// Writes all of `bytes` at `offset`. Threads may write different parts of a file at once.
  package static func write(
    _ bytes: UnsafeRawBufferPointer,
    to descriptor: FileDescriptor,
    at offset: UInt64
  ) throws(Errno) {
    var done = 0
    while done < bytes.count {
      let count = pwrite(
        descriptor.rawValue,
        bytes.baseAddress! + done,
        bytes.count - done,
        off_t(offset) + off_t(done)
      )
      if count > 0 {
        done += count
      } else if count == 0 {
        // Nothing written and no reason: `errno` is an older call's, and it would be so for ever.
        throw .ioError
      } else if errno != EINTR {
        throw Errno(rawValue: errno)
      }
    }
  }

  /// Fills `buffer` from `offset` on.
  ///
  /// - Returns: The bytes read; fewer than there is room for only at the file's end.
  package static func read(
    into buffer: UnsafeMutableRawBufferPointer,
    from descriptor: FileDescriptor,
    at offset: UInt64
  ) throws(Errno) -> Int {
    var done = 0
    while done < buffer.count {
      let count = pread(
        descriptor.rawValue,
        buffer.baseAddress! + done,
        buffer.count - done,
        off_t(offset) + off_t(done)
      )
      if count > 0 {
        done += count
      } else if count == 0 {
        break
      } else if errno != EINTR {
        throw Errno(rawValue: errno)
      }
    }
    return done
  }
}
