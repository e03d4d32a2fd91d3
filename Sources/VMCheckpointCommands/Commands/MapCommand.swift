import ArgumentParser
import VMCheckpoint

/// `vmckpt map`.
struct MapCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "map",
    abstract: "Show a guest's RAM, or what changed in it, as a picture.",
    usage: "vmckpt map <ref> [<other>] [--by owner] [-o <path>] [<options>]",
    discussion: """
      Of one snapshot, shows zero pages, pages that no other snapshot has (unique), and \
      those whose content others have too: another VM, else the parent, else other \
      snapshots of the VM. Of two, shows what is different in the second. Cells with \
      overlays are marked. Reads no page data.

      By owner, shows what the guest's own kernel uses pages for: anonymous memory, files, \
      slab, page tables, its image, free, ... Tooltips and the JSON name the owners. Of \
      Linux 5.10 and later; page data is read for it. A guest can lie.

      Draws with characters, or writes a picture: the name ends in .svg, .png or .html. \
      A cell shows the class that most of its pages have, zero and free pages aside, and unchanged \
      ones where anything changed; in pictures the stronger, the more of its pages. Files \
      have mode 0600.

      EXAMPLES:
        vmckpt map latest
        vmckpt map latest -o ram.html
        vmckpt map latest~1 latest -o changes.png
        vmckpt map latest --by owner -o owners.svg
        vmckpt map latest --json --cells 64 | jq '.cells[].pages.zero'
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot; of two, the earlier one.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Argument(
    help: ArgumentHelp("The later snapshot.", valueName: "other"),
    completion: SnapshotCompletion.kind
  )
  var other: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Tell pages apart by 'content', or by 'owner'. (default: content)",
      valueName: "what"
    )
  )
  var by: MapBasis?

  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("Write a picture: a name in .svg, .png or .html.", valueName: "path"),
    completion: .file(extensions: ["svg", "png", "html"])
  )
  var output: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Show at most this many cells. (default: 2048; 16384 in a picture)",
      valueName: "n"
    ),
    transform: Self.parseCellCount
  )
  var cells: Int?

  @Flag(name: .long, help: "Replace a file that exists.")
  var force = false

  @OptionGroup var common: CommonOptions

  /// More would make pictures of tens of megabytes.
  static let cellCounts = 1...UInt64(65536)

  static func parseCellCount(_ text: String) throws(ArgumentError) -> Int {
    let count = try DecimalNumber.parse(text)
    guard cellCounts.contains(count) else {
      throw ArgumentError("expected 1 to \(cellCounts.upperBound)")
    }
    return Int(count)
  }

  var accomplishment: String? { output == nil ? nil : "the picture is written" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> MapOutput {
    let reference = try SnapshotReference(reference)
    let format = try pictureFormat()
    let storePath = try common.storePath(environment: session.environment)
    let cellCount =
      cells ?? (format == nil ? MapText.maximumCellCount : MapDrawing.maximumCellCount)
    let later: SnapshotReference?
    if let other { later = try SnapshotReference(other) } else { later = nil }
    guard by != .owner || later == nil else {
      throw VMCheckpointError(
        .invalidArgument,
        "a map by owner is of one snapshot",
        hint: "see whose pages changed between two with: vmckpt diff A B --who"
      )
    }
    let operation = LongOperation(session: session, common: common)
    let (map, _) = try operation.run { (control) throws(VMCheckpointError) in
      let store = try Store.open(at: storePath, cancellation: control.cancellation)
      let map: MemoryMap
      if by == .owner {
        map = try store.mapByOwner(
          of: reference,
          maximumCellCount: cellCount,
          control: control
        )
      } else if let later {
        map = try store.map(
          from: reference,
          to: later,
          maximumCellCount: cellCount,
          control: control
        )
      } else {
        map = try store.map(of: reference, maximumCellCount: cellCount, control: control)
      }
      if let format, let output {
        try store.writeFile(format.bytes(of: MapDrawing(map)), to: output, overwriting: force)
      }
      return map
    }
    return MapOutput(map, path: output, usesColour: session.usesColour)
  }

  private func pictureFormat() throws(VMCheckpointError) -> PictureFormat? {
    guard let output else {
      guard !force else {
        throw VMCheckpointError(
          .invalidArgument,
          "--force has no meaning without -o",
          hint: "leave it out, or name a file with -o"
        )
      }
      return nil
    }
    for format in PictureFormat.allCases
    where output.lowercased().hasSuffix(".\(format.rawValue)") { return format }
    throw VMCheckpointError(
      .invalidArgument,
      "\(quotedName(output)) does not show the picture's format",
      hint: "give a name that ends in .svg, .png or .html"
    )
  }
}

/// How a map is written.
enum PictureFormat: String, CaseIterable {
  case svg
  case png
  case html

  func bytes(of drawing: MapDrawing) -> [UInt8] {
    switch self {
    case .svg: Array(vector(drawing).document.utf8)
    case .html: Array(vector(drawing).page(title: drawing.title).utf8)
    case .png:
      {
        var canvas = PixelCanvas(width: drawing.width, height: drawing.height)
        drawing.draw(on: &canvas)
        return canvas.file.bytes
      }()
    }
  }

  private func vector(_ drawing: MapDrawing) -> SVGCanvas {
    var canvas = SVGCanvas(width: drawing.width, height: drawing.height)
    drawing.draw(on: &canvas)
    return canvas
  }
}
