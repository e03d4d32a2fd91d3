import Foundation
import Testing
import VMCheckpointTestSupport

/// The pictures of `vmckpt map`, as programs that are not vmckpt read them.
@Suite struct PictureTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save(
      "web/1",
      vm: "web",
      LabelledRAM(low: [1, 0, 2], high: [3]),
      overlays: OverlayJSON.document(
        #"{"kind":"hypercall","pfn":1,"variant":"vmcall"}"#,
        guestOSID: "0x8100060100000000"
      )
    )
  }

  private func picture(_ name: String, _ arguments: String...) throws -> String {
    let path = bench.directory.file(name)
    let outcome = try bench.tool.start(["map"] + arguments + ["-o", path]).wait()
    expectSuccess(outcome)
    #expect(outcome.text.hasPrefix("Wrote \(path)\n"))
    #expect(try fileMode(path) == 0o600)
    return path
  }

  private func python(_ script: String, _ arguments: String...) throws -> String {
    let outcome = try run(["/usr/bin/env", "python3", "-c", script] + arguments)
    expectSuccess(outcome)
    return outcome.text
  }

  /// Colours at points of a PNG, read by another program: `#rrggbb` each, and its size.
  private func pixels(_ path: String, _ points: [(Int, Int)]) throws -> [String] {
    let script = """
      import struct, sys, zlib
      data = open(sys.argv[1], "rb").read()
      assert data[:8] == b"\\x89PNG\\r\\n\\x1a\\n"
      at, chunks, body = 8, {}, b""
      while at < len(data):
          size, kind = struct.unpack(">I4s", data[at:at + 8])
          content = data[at + 8:at + 8 + size]
          crc, = struct.unpack(">I", data[at + 8 + size:at + 12 + size])
          assert zlib.crc32(kind + content) == crc, kind
          if kind == b"IDAT": body += content
          chunks[kind] = content
          at += 12 + size
      assert kind == b"IEND" and at == len(data)
      width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
      assert rest == [8, 3, 0, 0, 0], rest
      rows = zlib.decompress(body)
      assert len(rows) == height * (width + 1)
      assert all(rows[y * (width + 1)] == 0 for y in range(height))
      palette = chunks[b"PLTE"]
      assert max(rows) < len(palette) // 3
      print(width, height)
      for point in sys.argv[2:]:
          x, y = map(int, point.split(","))
          index = rows[y * (width + 1) + 1 + x]
          print("#" + palette[index * 3:index * 3 + 3].hex())
      """
    let arguments = points.map { "\($0.0),\($0.1)" }
    let outcome = try run(["/usr/bin/env", "python3", "-c", script, path] + arguments)
    expectSuccess(outcome)
    return outcome.text.split(separator: "\n").map(String.init)
  }

  @Test func aPNGShowsTheCells() throws {
    let path = try picture("map.png", "web/1")
    // Cells of 24 pixels from (112, 76): one, zero with a mark around it, one; behind a gap of 14
    // the next row.
    let found = try pixels(
      path,
      [(114, 78), (136 + 11, 76 + 11), (134, 80), (170, 90), (200, 90), (114, 76 + 24 + 14 + 4)]
    )
    #expect(
      found == [
        "656 278", "#0072b2", "#e9edf0", "#000000", "#0072b2", "#ffffff", "#0072b2",
      ]
    )
  }

  @Test(.slow) func aPNGOfAnyWidthDecodes() throws {
    for (index, pages) in [16, 300, 5000, 20000].enumerated() {
      try bench.save("size/\(index)", sampleRAM(pages, seed: UInt64(index)), "--vm", "size")
      _ = try pixels(try picture("size-\(index).png", "size/\(index)"), [(0, 0)])
    }
  }

  @Test func anSVGHasACellWithATooltipForEach() throws {
    let path = try picture("map.svg", "web/1")
    let script = """
      import sys, xml.etree.ElementTree as tree
      root = tree.parse(sys.argv[1]).getroot()
      space = "{http://www.w3.org/2000/svg}"
      assert root.tag == space + "svg", root.tag
      print(root.get("width"), root.get("height"))
      for rect in root.iter(space + "rect"):
          title = rect.find(space + "title")
          if title is not None:
              print(rect.get("x"), rect.get("y"), rect.get("width"), rect.get("fill"),
                    title.text.replace("\\n", " | "))
      print(" / ".join(text.text for text in root.iter(space + "text")))
      """
    #expect(
      try python(script, path) == """
        656 278
        112 76 23 #0072b2 GPA 0x0, PFN 0x0-0x0 | unique: 1 of 1 pages
        136 76 23 #e9edf0 GPA 0x1000, PFN 0x1-0x1 | zero: 1 of 1 pages | overlays at PFN 0x1: hypercall
        160 76 23 #0072b2 GPA 0x2000, PFN 0x2-0x2 | unique: 1 of 1 pages
        112 114 23 #0072b2 GPA 0x10000000, PFN 0x10000-0x10000 | unique: 1 of 1 pages
        135 75 26 none GPA 0x1000, PFN 0x1-0x1 | zero: 1 of 1 pages | overlays at PFN 0x1: hypercall
        RAM of web/1 / 16.0 KiB of RAM. A cell is 4.0 KiB, a row 64.0 KiB. / GPA / +0x0 / +0x4000 \
        / +0x8000 / +0xc000 / 0x0 / low / (no RAM) / 0x10000000 / high / zero / 1 page / 4.0 KiB \
        / unique / 3 pages / 12.0 KiB / shared with the parent / 0 pages / 0 B / shared within the \
        VM / 0 pages / 0 B / shared with other VMs / 0 pages / 0 B / overlays / 1 page

        """
    )
  }

  /// What the picture of each format must not do with names out of a store that somebody else made.
  @Test func namesAreTextAndNotMarkup() throws {
    let name = "<script>alert(1)</script>\"'&\u{1B}[31m\u{202E}"
    let digits = name.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    try bench.sql.run(
      """
      UPDATE snapshot SET name = CAST(x'\(digits)' AS TEXT);
      UPDATE memory_region SET name = '</text><script>&"''<' WHERE gpa = 0;
      """
    )
    for name in ["map.svg", "map.html"] {
      let text = String(decoding: try readFile(try picture(name, "latest")), as: UTF8.self)
      #expect(!text.contains("<script"))
      #expect(text.contains("&lt;script&gt;"))
      #expect(!text.contains("\u{1B}") && !text.contains("\u{202E}"))
    }
    let parsed = try python(
      """
      import sys, html.parser, xml.etree.ElementTree as tree
      tree.parse(sys.argv[1])
      class Parser(html.parser.HTMLParser):
          tags = set()
          open = []
          def handle_starttag(self, tag, attributes):
              self.tags.add(tag)
              if tag not in ("meta",): self.open.append(tag)
          def handle_startendtag(self, tag, attributes): self.tags.add(tag)
          def handle_endtag(self, tag): assert self.open.pop() == tag, tag
      parser = Parser()
      parser.feed(open(sys.argv[2], encoding="utf-8").read())
      assert not parser.open
      print(" ".join(sorted(parser.tags)))
      """,
      bench.directory.file("map.svg"),
      bench.directory.file("map.html")
    )
    #expect(parsed == "body head html meta rect style svg text title\n")
    _ = try pixels(try picture("map.png", "latest"), [(0, 0)])
    let text = try bench.tool.succeed("map", "latest").text
    #expect(!text.contains("\u{1B}") && !text.contains("\u{202E}"))
  }

  @Test func anExistingFileStays() throws {
    let path = try picture("map.svg", "web/1")
    let before = try readFile(path)
    expectFailure(
      try bench.tool.run("map", "web/1", "-o", path, "--cells", "2"),
      73,
      "\"\(path)\" exists already; give another path, or --force to replace it"
    )
    #expect(try readFile(path) == before)
    expectSuccess(try bench.tool.run("map", "web/1", "-o", path, "--cells", "2", "--force"))
    #expect(try readFile(path) != before)
    #expect(bench.leftovers.isEmpty)
    let json = try bench.tool.json("map", "web/1", "-o", path, "--force")
    #expect(json["path"] as? String == path)
  }

  @Test func theStoreIsNoPicture() throws {
    let store = bench.directory.file("store.png")
    try copyFile(bench.storePath, store)
    let outcome = try run([
      VMCkptTool.path(), "map", "web/1", "-o", store, "--force", "--store", store,
    ])
    expectFailure(
      outcome,
      73,
      "cannot create \"\(store)\": it belongs to the store; give another path"
    )
    #expect(try readFile(store) == readFile(bench.storePath))
  }
}
