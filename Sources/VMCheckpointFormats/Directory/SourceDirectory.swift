import Glibc
import SystemPackage
import VMCheckpoint

/// A directory that a snapshot is read from, and the small files in it.
struct SourceDirectory {
  /// More files than any VMM writes: a directory with more is not a snapshot's.
  static let maximumEntryCount = 1024

  let path: String

  init(path: String) { self.path = path }

  /// The directory that a file is in.
  init(containing file: String) {
    let parent = FilePath(file).removingLastComponent()
    path = parent.isEmpty ? "." : parent.string
  }

  /// Whether there is a directory at `path`.
  static func exists(at path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// The path of the file `name`.
  func file(_ name: String) -> String { FilePath(path).appending(name).string }

  /// Whether there is a regular file `name`.
  func has(_ name: String) -> Bool { Self.byteCount(ofFileAt: file(name)) != nil }

  /// The size of the regular file at `path`; `nil` when there is none.
  static func byteCount(ofFileAt path: String) -> UInt64? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return UInt64(status.st_size)
  }

  /// The names in the directory, sorted; those that begin with a dot are left out.
  ///
  /// - Throws: ``VMCheckpointError`` when it cannot be read, or has too many.
  func names() throws(VMCheckpointError) -> [String] {
    guard let directory = opendir(path) else {
      throw VMCheckpointError.cannotOpen("directory \(quotedName(path))", Errno(rawValue: errno))
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard !name.hasPrefix(".") else { continue }
      guard names.count < Self.maximumEntryCount else {
        throw .invalidData(
          "directory \(quotedName(path)) has more than \(Self.maximumEntryCount) files"
        )
      }
      names.append(name)
    }
    return names.sorted()
  }

  /// All bytes of the file at `path`.
  ///
  /// - Parameter noun: What it is, for messages.
  /// - Throws: ``VMCheckpointError``: `invalidData` when it has more than `maximumByteCount` bytes.
  static func read(
    _ path: String,
    noun: String,
    maximumByteCount: Int
  ) throws(VMCheckpointError) -> [UInt8] {
    let (descriptor, byteCount) = try FileRAMReader.open(path: path, noun: noun)
    defer { try? descriptor.close() }
    let name = "\(noun) \(quotedName(path))"
    guard byteCount <= UInt64(maximumByteCount) else {
      throw .invalidData(
        "\(name) has \(byteCount) bytes, and at most \(maximumByteCount) make sense"
      )
    }
    var bytes = [UInt8](repeating: 0, count: Int(byteCount))
    // Array's own closures only rethrow untyped errors.
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(Errno) in try FileIO.read(into: buffer, from: descriptor, at: 0) }
    }
    switch result {
    case .success(let count) where count == bytes.count: return bytes
    case .success:
      throw VMCheckpointError(.inputOutput, "\(name) shrank while it was being read")
    case .failure(let error):
      throw VMCheckpointError(.inputOutput, "cannot read \(name): \(error)")
    }
  }
}

extension VMCheckpointError {
  /// The error with the name of the file that it is about, with which its message goes on.
  func continuing(_ name: String) -> VMCheckpointError {
    VMCheckpointError(code, "\(name) \(message)", hint: hint)
  }
}

extension CaptureContext {
  /// Checks that the request does not say where RAM is: the source says it.
  func requireNoLayout(_ name: String) throws(VMCheckpointError) {
    guard request.layout == .contiguous else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(name) says itself where its RAM lies",
        hint: "give no memory regions"
      )
    }
  }
}
