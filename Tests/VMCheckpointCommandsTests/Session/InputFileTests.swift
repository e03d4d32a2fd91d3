import Glibc
import Testing
import VMCheckpoint
import VMCheckpointCommands

@Suite struct InputFileTests {
  private let file = InputFile(name: "the file", maximumByteCount: 100_000)

  @Test(arguments: [0, 1, 65_536, 65_537, 100_000])
  func readsWhole(count: Int) throws {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    let directory = try WorkDirectory()
    #expect(try file.read(path: try directory.write(bytes, to: "x")) == bytes)
  }

  @Test func readsNoMoreThanAllowed() throws {
    #expect(
      throws: VMCheckpointError(
        .invalidData,
        "the file has more than the 100000 bytes allowed"
      )
    ) { try file.read(path: "/dev/zero") }
  }

  @Test func failures() throws {
    let directory = try WorkDirectory()
    #expect(
      throws: VMCheckpointError(.notFound, "cannot open the file: No such file or directory")
    ) { try file.read(path: directory.file("missing")) }
    #expect(
      throws: VMCheckpointError(.inputOutput, "cannot read the file: Is a directory")
    ) { try file.read(path: directory.path) }
    #expect(
      throws: VMCheckpointError(.inputOutput, "cannot read the file: Bad file descriptor")
    ) { try file.read(descriptor: -1) }
  }
}
