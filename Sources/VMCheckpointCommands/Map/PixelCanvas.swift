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

  mutating func fill(_ area: PictureArea, _ colour: MapColour, tooltip: String?) {
    let index = index(of: colour)
    let (firstX, endX) = (max(0, area.x), min(width, area.x + area.width))
    let (firstY, endY) = (max(0, area.y), min(height, area.y + area.height))
    guard firstX < endX, firstY < endY else { return }
    for row in firstY..<endY {
      let start = row * width
      pixels.replaceSubrange(
        (start + firstX)..<(start + endX),
        with: repeatElement(index, count: endX - firstX)
      )
    }
  }

  mutating func frame(_ area: PictureArea, _ colour: MapColour, tooltip: String?) {
    let (right, bottom) = (area.x + area.width - 2, area.y + area.height - 2)
    fill(PictureArea(area.x, area.y, area.width, 2), colour)
    fill(PictureArea(area.x, bottom, area.width, 2), colour)
    fill(PictureArea(area.x, area.y, 2, area.height), colour)
    fill(PictureArea(right, area.y, 2, area.height), colour)
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
          fill(PictureArea(left + column, y - 7 + row, isTitle ? 2 : 1, 1), .ink)
        }
      }
      left += advance
    }
  }
}
