package import VMCheckpoint

/// Sorts of RAM that find different mistakes.
package enum RAMPattern: CaseIterable, Sendable {
  case allZero
  case allDistinct
  case allTheSame
  case alternating
  case unalignedRuns
  case firstPageOnly
  case lastPageOnly
  case pool
  case incompressible
  case pointers

  /// RAM of this sort. Pages that other images have too come from `pool`, which grows.
  package func image(
    pageCount: Int,
    pool: inout [[UInt8]],
    using generator: inout TestGenerator
  ) -> [UInt8] {
    var image = [UInt8](repeating: 0, count: pageCount * Page.byteCount)
    func put(_ page: [UInt8], at index: Int) {
      image.replaceSubrange((index * Page.byteCount)..<((index + 1) * Page.byteCount), with: page)
    }
    switch self {
    case .allZero: break
    case .allDistinct:
      for index in 0..<pageCount { put(generator.compressiblePage(), at: index) }
    case .allTheSame:
      let page = generator.compressiblePage()
      pool.append(page)
      for index in 0..<pageCount { put(page, at: index) }
    case .alternating:
      let pages = [generator.compressiblePage(), generator.incompressiblePage()]
      for index in 0..<pageCount where generator.oneIn(8) == false {
        put(pages[index % 2], at: index)
      }
    case .unalignedRuns:
      var index = generator.int(0...5)
      while index < pageCount {
        let end = min(pageCount, index + generator.int(1...37))
        for page in index..<end { put(generator.page(pool: &pool), at: page) }
        index = end + generator.int(1...37)
      }
    case .firstPageOnly: put(generator.compressiblePage(), at: 0)
    case .lastPageOnly: put(generator.incompressiblePage(), at: pageCount - 1)
    case .pool:
      for index in 0..<pageCount { put(generator.page(pool: &pool), at: index) }
    case .pointers:
      for index in 0..<pageCount {
        put(generator.oneIn(3) ? generator.compressiblePage() : generator.pointerPage(), at: index)
      }
    case .incompressible:
      for index in 0..<pageCount { put(generator.incompressiblePage(), at: index) }
    }
    return image
  }
}

extension TestGenerator {
  /// `pageCount` pages: a third zero, the rest distinct and of all sorts of compressibility. The
  /// seed determines them.
  package mutating func mixedImage(pageCount: Int) -> [UInt8] {
    var image: [UInt8] = []
    image.reserveCapacity(pageCount * Page.byteCount)
    for _ in 0..<pageCount {
      switch int(0...8) {
      case 0...2: image += [UInt8](repeating: 0, count: Page.byteCount)
      case 3: image += incompressiblePage()
      case 4: image += pointerPage()
      default: image += compressiblePage()
      }
    }
    return image
  }

  /// RAM of `pageCount` pages in up to four regions: with and without holes between them, and in
  /// any order in the file, with gaps there too. `inOrder`: as a stream needs them.
  package mutating func layout(pageCount: Int, inOrder: Bool) throws -> RAMLayout {
    let cuts = Set((0..<int(0...3)).map { _ in int(1...max(1, pageCount - 1)) })
      .filter { $0 < pageCount }.sorted()
    var sizes: [Int] = []
    for (start, end) in zip([0] + cuts, cuts + [pageCount]) { sizes.append(end - start) }
    var fileOrder = Array(sizes.indices)
    if !inOrder { fileOrder.shuffle(using: &self) }
    var fileOffsets = [Int](repeating: 0, count: sizes.count)
    var offset = 0
    for index in fileOrder {
      if !inOrder, offset > 0, oneIn(4) { offset += int(1...9) }
      fileOffsets[index] = offset
      offset += sizes[index]
    }
    var firstPFN = oneIn(3) ? UInt64(int(1...1000)) : 0
    var regions: [MemoryRegion] = []
    for (index, size) in sizes.enumerated() {
      regions.append(
        MemoryRegion(
          gpa: firstPFN << 12,
          byteCount: UInt64(size) << 12,
          fileOffset: UInt64(fileOffsets[index]) << 12,
          name: "region-\(index)"
        )
      )
      firstPFN += UInt64(size)
      // Every other region follows directly on the one before it.
      if oneIn(2) { firstPFN += oneIn(4) ? 1 << 30 : UInt64(int(1...40)) }
    }
    return try RAMLayout(regions: regions)
  }
}
