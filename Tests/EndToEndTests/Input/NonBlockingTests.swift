import Foundation
import Testing
import VMCheckpointTestSupport

/// A parent that works with events, such as one written for Node.js or in Go, hands its children
/// descriptors that do not wait. What cannot be read or written yet is no error.
@Suite struct NonBlockingTests {
  private let bench: Workbench
  /// More than the 256 KiB that vmckpt lets a pipe hold.
  private let ram = sampleRAM(200)

  init() throws {
    bench = try Workbench()
    try bench.save("a", ram)
  }

  private func makeNonBlocking(_ descriptor: Int32) {
    let flags = fcntl(descriptor, F_GETFL)
    #expect(fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0)
  }

  /// Runs a command whose output pipe is full when it begins.
  private func outcome(
    _ commandLine: [String]
  ) throws -> (outcome: ProcessOutcome, output: String) {
    let pipe = try ChildPipe()
    makeNonBlocking(pipe.writerForChild)
    let block = [UInt8](repeating: UInt8(ascii: "-"), count: 4096)
    while write(pipe.writerForChild, block, block.count) > 0 {}
    #expect(errno == EAGAIN)
    let fullByteCount = pipe.waitingByteCount
    let child = try ChildProcess(commandLine, outputDescriptor: pipe.writerForChild)
    pipe.closeWriter()
    try child.waitUntilItWaits(for: .descriptor)
    let bytes = try pipe.readToEnd()
    return (
      try child.wait(),
      String(decoding: bytes.dropFirst(fullByteCount), as: UTF8.self)
    )
  }

  @Test func aResultWaitsForItsReader() throws {
    for arguments in [["list", "--json"], ["show", "a", "--json"], ["list"], ["--help"]] {
      let tool = bench.tool
      let commandLine =
        arguments == ["--help"] ? [try VMCkptTool.path()] + arguments : tool.commandLine(arguments)
      let expected = try run(commandLine)
      let (outcome, output) = try outcome(commandLine)
      #expect(outcome.succeeded, "\(outcome)")
      #expect(output == expected.text)
    }
  }

  @Test func anErrorWaitsForItsReader() throws {
    let (outcome, output) = try outcome(
      ["/bin/sh", "-c", "exec \"$@\" 2>&1", "sh"] + bench.tool.commandLine(["show", "none"])
    )
    #expect(outcome.ending == .exit(66), "\(outcome)")
    #expect(output.hasPrefix("vmckpt: "), "\(output)")
  }

  @Test func ramWaitsForItsReader() throws {
    let pipe = try ChildPipe()
    makeNonBlocking(pipe.writerForChild)
    let child = try bench.tool.start(
      ["restore", "a", "-o", "-"],
      outputDescriptor: pipe.writerForChild
    )
    pipe.closeWriter()
    try child.waitUntilItWaits(for: .descriptor)
    #expect(try pipe.readToEnd() == ram)
    #expect(try child.wait().succeeded)
  }

  /// Starts a command, and gives it input when it waits for some.
  private func outcome(_ arguments: [String], input: [UInt8]) throws -> ProcessOutcome {
    let pipe = try ChildPipe()
    makeNonBlocking(pipe.reader)
    let child = try bench.tool.start(arguments, input: .descriptor(pipe.reader))
    try child.waitUntilItWaits(for: .descriptor)
    try pipe.write(input)
    pipe.closeWriter()
    return try child.wait()
  }

  @Test func inputIsWaitedFor() throws {
    let overlays = Array(
      OverlayJSON.document(#"{"kind":"hypercall","pfn":12,"variant":"vmcall"}"#).utf8
    )
    let source = try bench.write("ram", ram)
    let save = try outcome(["save", source, "--name", "b", "--overlays", "-"], input: overlays)
    #expect(save.succeeded, "\(save)")
    #expect(try bench.tool.json("show", "b")["overlays"] != nil)
    let stream = try outcome(["save", "-", "--name", "c"], input: ram)
    #expect(stream.succeeded, "\(stream)")
    #expect(try bench.restore("c") == ram)
  }
}
