import Foundation
import Testing
import VMCheckpointTestSupport

/// A migration stream is a stranger's: its names must not become commands of the script that a restore
/// makes of it.
@Suite struct QEMUHostileStreamTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  static let hostileNames = [
    "a'\u{301}; touch pwned; echo '\u{301}", "a'; touch pwned; '", "$(touch pwned)",
    "`touch pwned`", "a\"\u{301}; touch pwned; \"", "a\n touch pwned\n", "a,mem-path=x,id=b",
    "\u{301}'; touch pwned #",
  ]

  @Test(arguments: hostileNames)
  func namesInAStreamAreNoCommands(name: String) throws {
    let machine = "pc-q35-7.2"
    var stream = QEMUStreamBuilder()
    stream.header(machine: machine)
    stream.ramStart([(name, 4)])
    stream.ramPart(2)
    for index in 0..<4 {
      stream.page(name, index, (0..<4096).map { UInt8(truncatingIfNeeded: $0 + index) })
    }
    stream.ramEnd()
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    let source = try bench.write("stream", stream.bytes)
    try bench.tool.succeed("save", "qemu-stream:\(source)", "--name", "hostile")
    let place = try bench.directory.subdirectory("place")
    try bench.tool.succeed("restore", "hostile", "--format", "qemu", "-o", "\(place)/vm")
    let fake = try bench.write("fake", "#!/bin/bash\nprintf '%s\\0' \"$@\" > \"$OUT\"\n")
    chmod(fake, 0o700)
    let outcome = try run(
      ["/usr/bin/env", "-C", place, "\(place)/vm/run.sh", fake, "-x"],
      environment: ["OUT": bench.directory.file("argv")]
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(directoryEntries(place) == ["vm"], "a stranger's command ran")
    func escaped(_ text: String) -> String {
      String(decoding: text.utf8.flatMap { $0 == 0x2c ? [0x2c, 0x2c] : [$0] }, as: UTF8.self)
    }
    let expected = [
      "-x", "-object",
      "memory-backend-file,id=\(escaped(name)),size=16384,share=off,mem-path=\(place)/vm/ram",
      "-machine", "type=\(machine),memory-backend=\(escaped(name))", "-incoming", "fd:9",
    ].map { $0 + "\0" }.joined()
    #expect(try readFile(bench.directory.file("argv")).elementsEqual(expected.utf8))
  }
}
