/// A map as pixels.
struct PixelCanvas: MapCanvas {
  private let width: Int
  private let height: Int
  private var pixels: [UInt8]
  private var palette: [MapColour] = []
  private var indexes: [MapColour: UInt8] = [:]

  init(width: Int, height: Int) {
    self.width = width
    self.height = height
    pixels = [UInt8](repeating: 0, count: width * height)
  }

  var file: PNGFile { PNGFile(width: width, height: height, pixels: pixels, palette: palette) }

  /// A map has fewer than 256 colours; one more would look like the last.
  private mutating func index(of colour: MapColour) -> UInt8 {
    if let index = indexes[colour] { return index }
    guard palette.count < 256 else { return 255 }
    palette.append(colour)
    indexes[colour] = UInt8(palette.count - 1)
    return UInt8(palette.count - 1)
  }

  mutating func rectangle(
    _ x: Int,
    _ y: Int,
    _ width: Int,
    _ height: Int,
    _ colour: MapColour,
    tooltip: String?
  ) {
    let index = index(of: colour)
    let (firstX, endX) = (max(0, x), min(self.width, x + width))
    let (firstY, endY) = (max(0, y), min(self.height, y + height))
    guard firstX < endX, firstY < endY else { return }
    for row in firstY..<endY {
      let start = row * self.width
      pixels.replaceSubrange(
        (start + firstX)..<(start + endX),
        with: repeatElement(index, count: endX - firstX)
      )
    }
  }

  mutating func frame(
    _ x: Int,
    _ y: Int,
    _ width: Int,
    _ height: Int,
    _ colour: MapColour,
    tooltip: String?
  ) {
    rectangle(x, y, width, 2, colour, tooltip: nil)
    rectangle(x, y + height - 2, width, 2, colour, tooltip: nil)
    rectangle(x, y, 2, height, colour, tooltip: nil)
    rectangle(x + width - 2, y, 2, height, colour, tooltip: nil)
  }

  /// A title is bold: each dot is two wide.
  mutating func text(_ text: String, _ x: Int, _ y: Int, endsAtX: Bool, isTitle: Bool) {
    let advance = PixelFont.columnCount + (isTitle ? 3 : 1)
    var left = endsAtX ? x - text.count * advance : x
    for character in text {
      let rows = PixelFont.rows(of: character)
      for (row, bits) in rows.enumerated() {
        for column in 0..<PixelFont.columnCount
        where bits & (1 << (PixelFont.columnCount - 1 - column)) != 0 {
          rectangle(
            left + column,
            y - 7 + row,
            isTitle ? 2 : 1,
            1,
            .ink,
            tooltip: nil
          )
        }
      }
      left += advance
    }
  }
}
