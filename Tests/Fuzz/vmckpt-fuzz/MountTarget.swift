import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore

/// What a mount's server reads of others, by the first byte of the input: requests of the kernel, numbers of nodes,
/// and names of a hostile store.
struct MountTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let kind = input.choice(of: 3)
    let bytes = input.rest()
    switch kind {
    case 0: bytes.withUnsafeBytes { read($0) }
    case 1:
      guard bytes.count >= 8 else { return }
      let number = bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
      guard let node = MountNode(number) else { return }
      precondition(node.number == number, "a number and its node are one another's")
    default: makeTree(bytes)
    }
  }

  private func read(_ bytes: UnsafeRawBufferPointer) {
    guard let request = FUSERequest(bytes) else { return }
    precondition(bytes.count >= FUSERequest.headerByteCount)
    if case .lookUp(let name) = request.operation {
      precondition(!name.isEmpty && !name.utf8.contains(0) && !name.utf8.contains(0x2f))
    }
  }

  private func makeTree(_ bytes: [UInt8]) {
    let names = bytes.split(separator: 0).prefix(64).map { String(decoding: $0, as: UTF8.self) }
    let rows = names.enumerated().map { index, name in
      MountedSnapshot(
        id: Int64(index + 1),
        uuid: "\(index)",
        name: name,
        vm: names[(index * 7 + 3) % names.count],
        completedSeconds: UInt64(index)
      )
    }
    let tree = MountTree(rows)
    var open: [MountNode] = [.root]
    var seen = 0
    while let node = open.popLast() {
      guard let folder = tree.folder(node) else { continue }
      precondition(zip(folder.items, folder.items.dropFirst()).allSatisfy { $0.cookie < $1.cookie })
      for item in folder.items {
        precondition((1...255).contains(item.name.utf8.count) && !item.name.utf8.contains(0x2f))
        precondition(![".", ".."].contains(item.name))
        if item.target == nil { open.append(item.node) }
        seen += 1
      }
    }
    precondition(seen < 1_000_000)
  }

  var seeds: [[UInt8]] {
    func request(_ code: UInt32, _ body: [UInt8]) -> [UInt8] {
      withUnsafeBytes(of: UInt32(40 + body.count)) { Array($0) }
        + withUnsafeBytes(of: code) { Array($0) } + [UInt8](repeating: 1, count: 32) + body
    }
    let requests = [
      request(1, Array("by-name\0".utf8)), request(26, [UInt8](repeating: 7, count: 64)),
      request(15, [UInt8](repeating: 0, count: 40)), request(28, [UInt8](repeating: 0, count: 40)),
      request(46, [UInt8](repeating: 3, count: 24)), request(18, [UInt8](repeating: 1, count: 24)),
    ]
    return requests.map { [0] + $0 } + [[1, 1, 0, 0, 0, 0, 0, 0, 32]]
      + [[2] + Array("web\0web/7\0web/ram\0a//b\0..\0latest/x".utf8)]
  }
}
