package import VMCheckpoint

/// The proof that this user recorded a VM's command line on this host.
///
/// The proof is an HMAC-SHA-256 under ``CommandKey``. It covers all that is run or opened because of the record
/// (``QEMUMachineRecord``), and the devices' state, which QEMU reads: who can only write to the store can neither
/// change one of them nor put them beside another. It does not cover RAM.
package enum RecordedCommand {
  /// Puts a proof into `record`.
  ///
  /// - Parameter stream: The migration stream that is stored with it.
  package static func prove(
    _ record: inout QEMUMachineRecord,
    stream: [UInt8],
    with key: CommandKey
  ) {
    record.commandLineProof = key.code(of: message(record, stream)).map(hexadecimal)
  }

  /// Whether a stored command line may run without asking.
  ///
  /// Reads this user's key. The answer holds for the record and the stream that were given, and not for what is
  /// in the store a moment later.
  ///
  /// - Parameters:
  ///   - stream: The migration stream that is stored with it.
  ///   - folder: Where the key is; `nil`: in the state folder of this process's user.
  package static func trust(
    of record: QEMUMachineRecord,
    stream: [UInt8],
    folder: UserStateFolder? = nil
  ) -> CommandTrust {
    judge(record, stream: stream, folder: folder).trust
  }

  /// What a script compares to see whether it runs where its command line was recorded, for the same user.
  struct KeyMark: Hashable, Sendable {
    /// What comes before the key in what the fingerprint is of.
    static let prefix = "vmckpt run.sh\n"

    var keyPath: String
    /// SHA-256, in hexadecimal.
    var fingerprint: String
  }

  /// The answer, and of an own record the mark of the key that proves it.
  ///
  /// Any key of this user's on this host proves as much: root's services have one, and root's home may have another.
  static func judge(
    _ record: QEMUMachineRecord,
    stream: [UInt8],
    folder: UserStateFolder? = nil
  ) -> (trust: CommandTrust, mark: KeyMark?) {
    let folders = folder.map { [$0] } ?? UserStateFolder.all()
    var first: CommandTrust?
    for folder in folders {
      let (trust, mark) = judge(record, stream, in: folder)
      if trust == .ownRecord { return (trust, mark) }
      first = first ?? trust
    }
    return (first ?? .untrusted(.noKey), nil)
  }

  private static func judge(
    _ record: QEMUMachineRecord,
    _ stream: [UInt8],
    in place: UserStateFolder
  ) -> (trust: CommandTrust, mark: KeyMark?) {
    func untrusted(_ reason: CommandTrust.Reason) -> (CommandTrust, KeyMark?) {
      (.untrusted(reason), nil)
    }
    guard record.commandLine?.isEmpty == false else { return untrusted(.notRecorded) }
    guard let proof = record.commandLineProof else { return untrusted(.noProof) }
    let key: CommandKey
    do throws(VMCheckpointError) {
      guard let found = try CommandKey.load(from: place) else { return untrusted(.noKey) }
      key = found
    } catch {
      return untrusted(error.code == .notFound ? .noKey : .unusableKey(error.message))
    }
    guard let code = key.code(of: message(record, stream)),
      HMACSHA256.areEqual(Array(hexadecimal(code).utf8), Array(proof.utf8))
    else { return untrusted(.wrongProof) }
    let mark = KeyMark(
      keyPath: "\(place.path)/\(CommandKey.fileName)",
      fingerprint: hexadecimal(key.fingerprint(prefix: Array(KeyMark.prefix.utf8)))
    )
    return (.ownRecord, mark)
  }

  /// What the proof is of. Each part has its length before it, so that no two records have the same message.
  private static func message(_ record: QEMUMachineRecord, _ stream: [UInt8]) -> [UInt8] {
    var message = ProvedMessage(purpose: "vmckpt-qemu-command-1")
    message.append(record.machine)
    message.append(list: record.ramBlocks) { block, message in
      message.append(block.name)
      message.append(block.byteCount)
    }
    message.append(UInt64(bitPattern: Int64(record.ramOffset)))
    message.append(record.qemuVersion)
    message.append(list: record.commandLine ?? []) { $1.append($0) }
    message.append(record.workingDirectory)
    message.append(record.disks)
    message.append(SHA256Hasher.hash(stream))
    return message.bytes
  }
}

/// Bytes that stand for values in order, and for no other values.
struct ProvedMessage {
  private(set) var bytes: [UInt8] = []

  /// - Parameter purpose: What the proof is for: no proof of one purpose is one of another.
  init(purpose: String) { append(purpose) }

  mutating func append(_ number: UInt64) { bytes.appendBigEndian(number) }

  mutating func append(_ part: [UInt8]) {
    append(UInt64(part.count))
    bytes += part
  }

  mutating func append(_ text: String) { append(Array(text.utf8)) }

  mutating func append(_ text: String?) {
    append(list: text.map { [$0] } ?? []) { $1.append($0) }
  }

  mutating func append<Element>(
    list: [Element],
    _ appendElement: (Element, inout ProvedMessage) -> Void
  ) {
    append(UInt64(list.count))
    for element in list { appendElement(element, &self) }
  }
}
