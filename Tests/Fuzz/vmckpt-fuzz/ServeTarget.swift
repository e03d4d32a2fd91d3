import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore

/// What a page server reads of others, by the first byte of the input: a VMM's message with its mappings, events of
/// the kernel, and messages between a server and its keeper.
struct ServeTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let kind = input.choice(of: 3)
    let bytes = input.rest()
    switch kind {
    case 0: try readHandshake(bytes)
    case 1:
      for start in stride(from: 0, through: bytes.count - 32, by: 32) {
        let event = bytes.withUnsafeBytes {
          UserfaultEvent(UnsafeRawBufferPointer(rebasing: $0[start..<(start + 32)]))
        }
        if case .removed(let first, let end) = event { precondition(first <= .max && end <= .max) }
      }
    default:
      guard let message = KeeperMessage(bytes) else { return }
      precondition(KeeperMessage(message.bytes)?.number == message.number)
    }
  }

  private func readHandshake(_ bytes: [UInt8]) throws {
    let layout = try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: 4 << 20, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: 4 << 30, byteCount: 2 << 20, fileOffset: 4 << 20, name: "high"),
    ])
    let map = try GuestAddressMap(UserfaultHandshake(bytes), layout)
    precondition(UInt64(map.unitCount) * map.unitByteCount <= layout.byteCount)
    var unit = 0
    for piece in map.pieces {
      precondition(piece.firstUnit == unit && piece.address < piece.endAddress)
      precondition(
        layout.isRAM(
          from: PFN(unchecked: piece.firstPFN),
          through: PFN(unchecked: piece.pfns.upperBound - 1)
        ),
        "a page that is served is not RAM"
      )
      precondition(map.piece(holding: piece.address) == piece)
      precondition(map.piece(holding: piece.endAddress - 1) == piece)
      let units = map.units(of: piece.pfns, in: piece)
      precondition(units.lowerBound == unit)
      unit = units.upperBound
    }
    precondition(unit == map.unitCount)
  }

  var seeds: [[UInt8]] {
    let messages = [
      #"[{"base_host_virt_addr":1073741824,"size":6291456,"offset":0,"page_size":4096,"page_size_kib":4096}]"#,
      #"[{"base_host_virt_addr":1073741824,"size":2097152,"offset":4194304},{"base_host_virt_addr":2147483648,"size":4194304,"offset":0}]"#,
      #"[{"base_host_virt_addr":1073741824,"size":4194304,"offset":0,"page_size_kib":2097152}]"#,
    ]
    return messages.map { [0] + Array($0.utf8) }
      + [[1, 0x15] + [UInt8](repeating: 1, count: 31)]
      + [[2] + KeeperMessage(.snapshot, number: 3, text: "0123456789").bytes]
  }
}
