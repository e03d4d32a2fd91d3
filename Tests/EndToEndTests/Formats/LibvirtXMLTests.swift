import Foundation
import Testing
import VMCheckpointTestSupport

/// The XML that a domain is restored with.
@Suite struct LibvirtXMLTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private static let stream = ConvertSource.stream(sampleRAM(64))

  /// The image that libvirt would have written for a domain with this XML.
  private func expectImage(
    of builder: LibvirtImageBuilder,
    room: Int,
    isRestored: Bool
  ) throws {
    var expected = builder
    expected.xml = builder.xml.replacingOccurrences(of: "guest", with: "moved")
    expected.room = room
    let xml = try bench.write("moved.xml", expected.xml)
    let source = try bench.write("guest.save", builder.image(stream: Self.stream))
    let target = bench.directory.file("moved.save")
    let options = ["--format", "libvirt-save", "--xml", xml, "-o", target, "--force"]
    if isRestored {
      try bench.tool.succeed("save", source, "--name", "a")
      expectSuccess(try bench.tool.start(["restore", "a"] + options).wait())
      try bench.tool.succeed("delete", "a")
    } else {
      expectSuccess(try bench.tool.start(["convert", source] + options).wait())
    }
    let bytes = try readFile(target)
    let head = expected.image(stream: [])
    #expect(Array(bytes.prefix(head.count)) == head)
    #expect(bytes[head.count...].starts(with: Array("QEVM".utf8)))
  }

  @Test(arguments: [true, false])
  func theXMLIsReplacedAndTheCookieStays(isRestored: Bool) throws {
    var builder = LibvirtImageBuilder()
    try expectImage(of: builder, room: builder.room, isRestored: isRestored)
    builder.cookie = nil
    try expectImage(of: builder, room: builder.room, isRestored: isRestored)
    builder.isByteSwapped = true
    builder.cookie = "<cookie/>"
    try expectImage(of: builder, room: builder.room, isRestored: isRestored)
  }

  /// Where the new XML has no room, the description grows, and has room again.
  @Test func anXMLThatIsLongerHasRoom() throws {
    var builder = LibvirtImageBuilder()
    builder.room = 8
    let xml = "<domain>\(String(repeating: "x", count: 10_000))</domain>"
    let path = try bench.write("long.xml", xml)
    let source = try bench.write("guest.save", builder.image(stream: Self.stream))
    let target = bench.directory.file("long.save")
    let outcome = try bench.tool.run(
      "convert",
      source,
      "--format",
      "libvirt-save",
      "--xml",
      path,
      "-o",
      target
    )
    expectSuccess(outcome)
    builder.xml = xml
    builder.room = 0
    let used = builder.image(stream: []).count - 92
    var head = LibvirtImageBuilder()
    head.xml = xml
    head.room = 64 << 10
    #expect(try readFile(target, at: 0, byteCount: 92 + used + 64 << 10) == head.image(stream: []))
    // And is read again.
    try bench.tool.succeed("save", target, "--name", "a")
    #expect(try bench.restore("a") == sampleRAM(64))
  }

  @Test(arguments: ["", "domain", "<domain>\0</domain>"])
  func whatIsNotXMLIsRefused(text: String) throws {
    let path = try bench.write("bad.xml", text)
    let source = try bench.write("guest.save", LibvirtImageBuilder().image(stream: Self.stream))
    let target = bench.directory.file("out.save")
    expectFailure(
      try bench.tool.run(
        "convert",
        source,
        "--format",
        "libvirt-save",
        "--xml",
        path,
        "-o",
        target
      ),
      65,
      "what is to take the place of the domain's XML is not XML; give it as 'virsh save-image-dumpxml' prints it"
    )
    #expect(!exists(target))
  }

  @Test func anXMLFileThatIsNotThereIsNamed() throws {
    let source = try bench.write("guest.save", LibvirtImageBuilder().image(stream: Self.stream))
    expectFailure(
      try bench.tool.run(
        "convert",
        source,
        "--format",
        "libvirt-save",
        "--xml",
        "/nonexistent.xml",
        "-o",
        bench.directory.file("out")
      ),
      66,
      "cannot open XML file \"/nonexistent.xml\": No such file or directory"
    )
  }
}
