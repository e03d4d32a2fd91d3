import Glibc

/// The whole contents of a file.
package func readFile(_ path: String) throws -> [UInt8] {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw fileError("open", path) }
  defer { close(descriptor) }
  var status = stat()
  guard fstat(descriptor, &status) == 0 else { throw fileError("examine", path) }
  let expected = Int(status.st_size)
  return try [UInt8](unsafeUninitializedCapacity: expected) { buffer, count in
    count = 0
    while count < expected {
      let result = pread(descriptor, buffer.baseAddress! + count, expected - count, off_t(count))
      guard result > 0 else { throw fileError("read", path) }
      count += result
    }
  }
}

/// Creates or replaces a file.
package func writeFile(_ path: String, _ bytes: [UInt8]) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw fileError("create", path) }
  defer { close(descriptor) }
  try writeAll(descriptor, bytes, path: path)
}

/// Creates or replaces a text file.
package func writeFile(_ path: String, _ text: String) throws {
  try writeFile(path, Array(text.utf8))
}

/// Creates a RAM file of whole pages, with a hole for each run of zero pages.
package func writeSparseFile(_ path: String, _ bytes: [UInt8]) throws {
  let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw fileError("create", path) }
  defer { close(descriptor) }
  guard ftruncate(descriptor, off_t(bytes.count)) == 0 else { throw fileError("size", path) }
  try bytes.withUnsafeBytes { buffer in
    for offset in stride(from: 0, to: buffer.count, by: 4096) {
      let page = buffer[offset..<min(offset + 4096, buffer.count)]
      guard page.contains(where: { $0 != 0 }) else { continue }
      guard
        pwrite(descriptor, buffer.baseAddress! + offset, page.count, off_t(offset)) == page.count
      else { throw fileError("write", path) }
    }
  }
}

/// Makes an empty file of this size without data.
package func makeHole(_ path: String, byteCount: Int) throws {
  try writeFile(path, [UInt8]())
  guard truncate(path, off_t(byteCount)) == 0 else { throw fileError("size", path) }
}

/// Overwrites part of a file.
package func patchFile(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
  let descriptor = open(path, O_WRONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw fileError("open", path) }
  defer { close(descriptor) }
  guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else {
    throw fileError("write", path)
  }
}

/// Copies a file's bytes.
package func copyFile(_ source: String, _ destination: String) throws {
  try writeFile(destination, try readFile(source))
}

/// Whether there is anything at `path`.
package func exists(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0
}

/// The permission bits of a file.
package func fileMode(_ path: String) throws -> Int {
  var status = stat()
  guard stat(path, &status) == 0 else { throw fileError("examine", path) }
  return Int(status.st_mode & 0o7777)
}

/// The size of a file, and what it takes on disk.
package func fileSize(_ path: String) throws -> (byteCount: Int, allocated: Int) {
  var status = stat()
  guard stat(path, &status) == 0 else { throw fileError("examine", path) }
  return (Int(status.st_size), Int(status.st_blocks) * 512)
}

func writeAll(_ descriptor: Int32, _ bytes: [UInt8], path: String) throws {
  try bytes.withUnsafeBytes { buffer in
    var done = 0
    while done < buffer.count {
      let result = write(descriptor, buffer.baseAddress! + done, buffer.count - done)
      guard result > 0 else { throw fileError("write", path) }
      done += result
    }
  }
}

private func fileError(_ verb: String, _ path: String) -> TestSetupError {
  TestSetupError("cannot \(verb) \(path): \(String(cString: strerror(errno)))")
}

/// Part of a file.
package func readFile(_ path: String, at offset: Int, byteCount: Int) throws -> [UInt8] {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw fileError("open", path) }
  defer { close(descriptor) }
  return try [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
    count = pread(descriptor, buffer.baseAddress!, byteCount, off_t(offset))
    guard count == byteCount else { throw fileError("read", path) }
  }
}

/// A file of the kernel's, whose size is not known before it is read.
package func readFile(procFile path: String) throws -> String {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw fileError("open", path) }
  defer { close(descriptor) }
  let bytes = try [UInt8](unsafeUninitializedCapacity: 16 << 10) { buffer, count in
    let result = read(descriptor, buffer.baseAddress!, buffer.count)
    guard result >= 0 else { throw fileError("read", path) }
    count = result
  }
  return String(decoding: bytes, as: UTF8.self)
}

/// Where a symbolic link points, if it can be read.
package func readLink(_ path: String) -> String? {
  let target = [UInt8](unsafeUninitializedCapacity: Int(PATH_MAX)) { buffer, count in
    count = buffer.withMemoryRebound(to: CChar.self) { characters in
      max(0, readlink(path, characters.baseAddress!, characters.count))
    }
  }
  return target.isEmpty ? nil : String(decoding: target, as: UTF8.self)
}
