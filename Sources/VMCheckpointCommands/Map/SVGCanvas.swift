/// A map as SVG, and as a page of HTML around it.
struct SVGCanvas: MapCanvas {
  private let width: Int
  private let height: Int
  private var elements: [String] = []

  init(width: Int, height: Int) {
    self.width = width
    self.height = height
  }

  mutating func fill(_ area: PictureArea, _ colour: MapColour, tooltip: String?) {
    add(Self.tag(area) + "fill=\"\(colour.hex)\"", tooltip)
  }

  mutating func frame(_ area: PictureArea, _ colour: MapColour, tooltip: String?) {
    // A stroke goes to both sides of its line.
    let line = PictureArea(area.x + 1, area.y + 1, area.width - 2, area.height - 2)
    add(
      Self.tag(line) + "fill=\"none\" pointer-events=\"all\" stroke=\"\(colour.hex)\" "
        + "stroke-width=\"2\"",
      tooltip
    )
  }

  private static func tag(_ area: PictureArea) -> String {
    "rect x=\"\(area.x)\" y=\"\(area.y)\" width=\"\(area.width)\" height=\"\(area.height)\" "
  }

  mutating func text(_ text: String, _ x: Int, _ y: Int, endsAtX: Bool, isTitle: Bool) {
    elements.append(
      "<text x=\"\(x)\" y=\"\(y)\"" + (endsAtX ? " text-anchor=\"end\"" : "")
        + (isTitle ? " font-size=\"15\" font-weight=\"bold\"" : "") + ">\(markup(text))</text>\n"
    )
  }

  private mutating func add(_ tag: String, _ tooltip: String?) {
    guard let tooltip else {
      elements.append("<\(tag)/>\n")
      return
    }
    elements.append("<\(tag)><title>\(markup(tooltip))</title></rect>\n")
  }

  /// The element, complete in itself.
  var element: String {
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(height)\" "
      + "viewBox=\"0 0 \(width) \(height)\" font-family=\"monospace\" font-size=\"11\" "
      + "fill=\"\(MapColour.ink.hex)\" shape-rendering=\"crispEdges\">\n" + elements.joined()
      + "</svg>\n"
  }

  /// A file of its own.
  var document: String { "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + element }

  /// A page that needs no other file and may load none, nor run anything.
  func page(title: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src \
    'unsafe-inline'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>\(markup(title))</title>
    <style>
    body { margin: 1em; background: #fff; }
    svg { max-width: 100%; height: auto; }
    rect:hover { opacity: 0.7; }
    </style>
    </head>
    <body>
    \(element)</body>
    </html>

    """
  }
}

/// `text` for the content of an element. Characters that XML does not have, or that deceive, are
/// shown escaped, but for line breaks.
func markup(_ text: String) -> String {
  text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
    var result = ""
    for character in printable(line).unicodeScalars {
      switch character {
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "&": result += "&amp;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      // Not characters to XML 1.0, and none to a reader.
      case "\u{FFFE}", "\u{FFFF}": result += "\u{FFFD}"
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }.joined(separator: "\n")
}
