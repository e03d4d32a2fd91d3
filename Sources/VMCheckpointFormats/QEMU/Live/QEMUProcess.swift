import Foundation
import Glibc
import SystemPackage
import VMCheckpoint

/// A file of another process, opened. It can be opened again by its path as long as this object lives.
final class QEMURAMFile: Sendable {
  private let descriptor: FileDescriptor

  fileprivate init(_ descriptor: FileDescriptor) {
    self.descriptor = descriptor
  }

  deinit { try? descriptor.close() }

  var path: String { "/proc/self/fd/\(descriptor.rawValue)" }
}

/// The process that runs a VM, as Linux shows it.
struct QEMUProcess {
  let id: Int32

  /// 1 MiB: Linux takes longer command lines, and QEMU's have a few KiB.
  private static let maximumCommandLineByteCount = 1 << 20
  /// 16 MiB: some hundred thousand mappings, of which Linux allows 65530.
  private static let maximumMapByteCount = 16 << 20

  private var directory: String { "/proc/\(id)" }

  /// The arguments, if the process looks like QEMU and not like something that relays QMP.
  var commandLine: [String]? {
    guard
      let data = Self.contents("\(directory)/cmdline", Self.maximumCommandLineByteCount)
    else { return nil }
    // One that is not UTF-8 would be recorded as another: then the script asks for them.
    let texts = data.dropLast().split(separator: 0, omittingEmptySubsequences: false)
      .map { String(validating: $0, as: UTF8.self) }
    let arguments = texts.compactMap { $0 }
    guard arguments.count == texts.count else { return nil }
    guard let program = arguments.first?.split(separator: "/").last,
      program.contains("qemu") || program.contains("kvm")
    else { return nil }
    return arguments
  }

  /// Whether the process has all the rights of this process's user, and no other's.
  ///
  /// What a process shows as its command line it may have written there itself. So another user's is not
  /// this user's own, not for root either.
  var belongsToThisUser: Bool {
    guard let data = Self.contents("\(directory)/status", Self.maximumCommandLineByteCount) else {
      return false
    }
    let line = data.split(separator: 10).first { $0.starts(with: Array("Uid:".utf8)) }
    // Real, effective, saved, and that of file systems.
    let users = (line ?? Data()).split(whereSeparator: { $0 == 9 || $0 == 32 }).dropFirst()
      .map { uid_t(String(decoding: $0, as: UTF8.self)) }
    return users.count == 4 && users.allSatisfy { $0 == geteuid() }
  }

  var workingDirectory: String? { Self.linkTarget("\(directory)/cwd") }

  /// The numbers of file system and inode of each file that the process has open; `nil` when this process may not
  /// look.
  var openFiles: Set<[UInt64]>? {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: "\(directory)/fd") else {
      return nil
    }
    let files = names.compactMap { name -> [UInt64]? in
      var status = stat()
      guard stat("\(directory)/fd/\(name)", &status) == 0 else { return nil }
      return [UInt64(status.st_dev), UInt64(status.st_ino)]
    }
    return files.isEmpty ? nil : Set(files)
  }

  /// The file of `byteCount` bytes whose first byte the process has mapped, shared, at `address`.
  ///
  /// - Returns: `nil` when there is none, or this process may not look.
  func file(mappedAt address: UInt64, byteCount: UInt64) -> QEMURAMFile? {
    guard let mapping = mapping(at: address), mapping.isShared, mapping.fileOffset == 0 else {
      return nil
    }
    let names =
      (try? FileManager.default.contentsOfDirectory(atPath: "\(directory)/fd")) ?? []
    var identities = Set<[UInt64]>()
    var found: QEMURAMFile?
    for name in names {
      let path = "\(directory)/fd/\(name)"
      guard let target = Self.linkTarget(path), target.utf8.elementsEqual(mapping.path.utf8),
        let descriptor = try? FileDescriptor.open(
          FilePath(path),
          .readOnly,
          options: [.closeOnExec, .nonBlocking]
        )
      else { continue }
      let file = QEMURAMFile(descriptor)
      var status = stat()
      guard fstat(descriptor.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
        status.st_size == Int64(byteCount)
      else { continue }
      // All memfds have one name. Other file systems may show another inode than that of the mapping.
      guard !mapping.path.hasPrefix("/memfd:") || UInt64(status.st_ino) == mapping.inode else {
        continue
      }
      identities.insert([UInt64(status.st_dev), UInt64(status.st_ino)])
      found = file
    }
    return identities.count == 1 ? found : nil
  }

  private struct Mapping {
    var isShared: Bool
    /// What of the file is at the address that was asked for.
    var fileOffset: UInt64
    var inode: UInt64
    var path: String
  }

  /// A line of /proc/PID/maps: "start-end perms offset device inode    path".
  private func mapping(at address: UInt64) -> Mapping? {
    guard let data = Self.contents("\(directory)/maps", Self.maximumMapByteCount) else {
      return nil
    }
    for line in data.split(separator: 10) {
      let fields = line.split(separator: 32, maxSplits: 5)
      guard fields.count == 6 else { continue }
      let texts = fields.map { String(decoding: $0, as: UTF8.self) }
      let range = texts[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
      guard range.count == 2, range[0] <= address, address < range[1] else { continue }
      guard let offset = UInt64(texts[2], radix: 16), let inode = UInt64(texts[4]) else {
        return nil
      }
      return Mapping(
        isShared: texts[1].hasSuffix("s"),
        fileOffset: offset + (address - range[0]),
        inode: inode,
        path: String(texts[5].drop { $0 == " " })
      )
    }
    return nil
  }

  private static func contents(_ path: String, _ maximumByteCount: Int) -> Data? {
    guard let file = FileHandle(forReadingAtPath: path),
      let data = try? file.read(upToCount: maximumByteCount + 1), data.count <= maximumByteCount
    else { return nil }
    return data
  }

  private static func linkTarget(_ path: String) -> String? {
    try? FileManager.default.destinationOfSymbolicLink(atPath: path)
  }
}
