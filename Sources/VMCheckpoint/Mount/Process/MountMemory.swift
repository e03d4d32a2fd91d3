import CLinux
import Foundation
import Glibc
import SystemPackage

/// What all servers of a mount must know, in memory that outlives them: a file without a name, which the keeper has
/// as well.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     4  1 once the mount answers
///          4     4  1 when nobody wants the mount any more
///          8     4  1 when the kernel can hand out requests again
///         16     4  length of the settings
///         20     4  so many entries, from the first one on, have been used
///         24     4  servers that could not begin, one after the other
///       4096   1 M  the settings, as JSON
///        1 M  +4 K  open files that hold RAM, 16 bytes each: the handle, or 0, and the snapshot's number
///        2 M  +4 K  of the same files, the snapshots' UUIDs, 16 bytes each
///
/// A handle is the kernel's number of the request that opened the file. A server that is killed after it has
/// noted one and before it has answered is asked again by the same number, and notes nothing twice. An entry counts when
/// neither of its words is 0: so a kill between two stores leaves either what was before, or nothing, and the kernel
/// asks again as long as it has no answer.
final class MountMemory {
  /// What does not change.
  struct Settings: Codable {
    /// The mount's absolute path.
    var directory: String
    /// The store's absolute path.
    var storePath: String
    /// The snapshots that are shown; `nil`: all.
    var uuids: [String]?
    /// Tells the store from another one that has come to its path; a copy has the same. `nil`: not known.
    var storeSeed: StoreSeed?
    var allowsOthers: Bool
    /// Whether `fusermount3` has mounted it.
    var isUnprivileged: Bool
    var user: UInt32
    var group: UInt32
  }

  struct OpenFile: Hashable {
    var handle: UInt64
    var snapshot: Int64
    /// The snapshot's.
    var uuid: UUID
  }

  static let capacity = 65_536
  private static let settingsOffset = 4096
  private static let settingsCapacity = 1 << 20
  private static let filesOffset = settingsOffset + settingsCapacity
  private static let entryByteCount = 16
  private static let uuidsOffset = filesOffset + capacity * entryByteCount
  private static let byteCount = uuidsOffset + capacity * entryByteCount

  let descriptor: Int32
  let settings: Settings
  private let memory: UnsafeMutableRawBufferPointer
  private var places: [UInt64: Int] = [:]
  private var free: [Int] = []
  private var openCounts: [Int64: Int] = [:]
  /// The snapshots' UUIDs that servers before have noted.
  private(set) var notedUUIDs: [Int64: Set<UUID>] = [:]

  /// New memory.
  ///
  /// - Throws: ``VMCheckpointError``: `outOfResources`; `invalidArgument` for more settings than there is room for.
  init(_ settings: Settings) throws(VMCheckpointError) {
    let descriptor = clinux_memory_file("vmckpt-mount")
    guard descriptor >= 0 else { throw Self.failure() }
    self.descriptor = descriptor
    self.settings = settings
    memory = try Self.map(descriptor)
    guard let json = try? JSONEncoder().encode(settings), json.count <= Self.settingsCapacity else {
      throw VMCheckpointError(
        .invalidArgument,
        "too many snapshots are named",
        hint: "name none, to mount all of them"
      )
    }
    memory.storeBytes(of: UInt32(json.count), toByteOffset: 16, as: UInt32.self)
    UnsafeMutableRawBufferPointer(rebasing: memory[Self.settingsOffset...]).copyBytes(from: json)
    findFiles()
  }

  /// The memory of a server that is gone.
  init(adopting descriptor: Int32) throws(VMCheckpointError) {
    self.descriptor = descriptor
    memory = try Self.map(descriptor)
    let count = Int(memory.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
    let json = memory[Self.settingsOffset...].prefix(min(count, Self.settingsCapacity))
    guard let settings = try? JSONDecoder().decode(Settings.self, from: Data(json)) else {
      throw VMCheckpointError(.unavailable, "the keeper of a mount has sent no settings")
    }
    self.settings = settings
    findFiles()
  }

  deinit {
    munmap(memory.baseAddress, memory.count)
    close(descriptor)
  }

  private static func map(
    _ descriptor: Int32
  ) throws(VMCheckpointError) -> UnsafeMutableRawBufferPointer {
    guard ftruncate(descriptor, off_t(byteCount)) == 0,
      let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
      address != MAP_FAILED
    else { throw failure() }
    return UnsafeMutableRawBufferPointer(start: address, count: byteCount)
  }

  private static func failure() -> VMCheckpointError {
    let code = errno
    return VMCheckpointError(
      .outOfResources,
      "cannot make memory for the state of a mount: \(Errno(rawValue: code))"
    )
  }

  // MARK: States

  private func word(_ offset: Int) -> Bool {
    memory.load(fromByteOffset: offset, as: UInt32.self) != 0
  }

  private func setWord(_ offset: Int, _ value: Bool) {
    memory.storeBytes(of: value ? 1 : 0, toByteOffset: offset, as: UInt32.self)
  }

  /// Whether the mount answers.
  var isReady: Bool {
    get { word(0) }
    set { setWord(0, newValue) }
  }

  /// Whether whoever mounted has given up, so that no server is to begin.
  var isAbandoned: Bool {
    get { word(4) }
    set { setWord(4, newValue) }
  }

  /// Whether the kernel hands out again what a server that is gone has not answered.
  var canResend: Bool {
    get { word(8) }
    set { setWord(8, newValue) }
  }

  /// How many servers could not begin, one after the other.
  var failedStartCount: UInt32 {
    get { memory.load(fromByteOffset: 24, as: UInt32.self) }
    set { memory.storeBytes(of: newValue, toByteOffset: 24, as: UInt32.self) }
  }

  // MARK: Open files

  private func entry(_ index: Int) -> Int { Self.filesOffset + index * Self.entryByteCount }

  private func uuidPlace(_ index: Int) -> Int { Self.uuidsOffset + index * Self.entryByteCount }

  private var usedCount: Int {
    get { min(Int(memory.load(fromByteOffset: 20, as: UInt32.self)), Self.capacity) }
    set { memory.storeBytes(of: UInt32(newValue), toByteOffset: 20, as: UInt32.self) }
  }

  private func findFiles() {
    for index in 0..<usedCount {
      let handle = memory.load(fromByteOffset: entry(index), as: UInt64.self)
      let snapshot = memory.load(fromByteOffset: entry(index) + 8, as: Int64.self)
      if handle != 0, snapshot != 0 {
        places[handle] = index
        openCounts[snapshot, default: 0] += 1
        let bytes = memory[uuidPlace(index)...].prefix(Self.entryByteCount)
        // Noted by a version that kept none.
        guard bytes.contains(where: { $0 != 0 }) else { continue }
        let uuid = memory.loadUnaligned(fromByteOffset: uuidPlace(index), as: uuid_t.self)
        notedUUIDs[snapshot, default: []].insert(UUID(uuid: uuid))
      } else {
        free.append(index)
      }
    }
  }

  /// An entry that is not used; `nil` when there is none.
  private func takeEntry() -> Int? {
    if let index = free.popLast() { return index }
    let index = usedCount
    guard index < Self.capacity else { return nil }
    usedCount = index + 1
    return index
  }

  /// The snapshots of which files are open.
  var openSnapshots: Set<Int64> { Set(openCounts.keys) }

  func isOpen(_ snapshot: Int64) -> Bool { openCounts[snapshot] != nil }

  /// Notes an open file, if it is not noted yet.
  ///
  /// - Returns: `false` when there is no room.
  func add(_ file: OpenFile) -> Bool {
    guard places[file.handle] == nil else { return true }
    guard let index = takeEntry() else { return false }
    memory.storeBytes(of: file.uuid.uuid, toByteOffset: uuidPlace(index), as: uuid_t.self)
    memory.storeBytes(of: file.snapshot, toByteOffset: entry(index) + 8, as: Int64.self)
    memory.storeBytes(of: file.handle, toByteOffset: entry(index), as: UInt64.self)
    places[file.handle] = index
    openCounts[file.snapshot, default: 0] += 1
    return true
  }

  /// Notes that a file is closed.
  ///
  /// - Returns: Its snapshot, and whether none of its files is open any more; `nil` when the file was not open.
  func remove(_ handle: UInt64) -> (snapshot: Int64, isLast: Bool)? {
    guard let index = places.removeValue(forKey: handle) else { return nil }
    let snapshot = memory.load(fromByteOffset: entry(index) + 8, as: Int64.self)
    memory.storeBytes(of: 0, toByteOffset: entry(index), as: UInt64.self)
    memory.storeBytes(of: 0, toByteOffset: entry(index) + 8, as: Int64.self)
    free.append(index)
    let count = (openCounts[snapshot] ?? 1) - 1
    openCounts[snapshot] = count > 0 ? count : nil
    return (snapshot, count <= 0)
  }
}
