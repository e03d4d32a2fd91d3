/// What restored RAM is written as: a file of its own, part of one that holds more, or several files.
package struct RestoredForm: Sendable {
  /// Bytes of the first file that are not RAM.
  package struct Part {
    package var offset: UInt64
    package var bytes: ArraySlice<UInt8>

    package init(offset: UInt64, bytes: ArraySlice<UInt8>) {
      self.offset = offset
      self.bytes = bytes
    }

    package var endOffset: UInt64 { offset + UInt64(bytes.count) }

    package func withBytes(
      _ body: (UnsafeRawBufferPointer) throws(VMCheckpointError) -> Void
    ) throws(VMCheckpointError) {
      // Array's own closures only rethrow untyped errors.
      let result = bytes.withUnsafeBytes { buffer in
        Result { () throws(VMCheckpointError) in try body(buffer) }
      }
      try result.get()
    }
  }

  /// Where RAM is in the files.
  package var placement: RAMPlacement
  /// In ascending order of offset, none over RAM or another. What neither they nor RAM hold is zero.
  package var parts: [Part]
  /// The size of each file.
  package var fileByteCounts: [UInt64]

  /// The size of all files.
  package var byteCount: UInt64 { fileByteCounts.reduce(0, +) }

  /// A flat RAM file.
  package init(flat layout: RAMLayout) {
    placement = RAMPlacement(flat: layout)
    parts = []
    fileByteCounts = [layout.fileByteCount]
  }

  /// A file for each of the parts of flat RAM, which have these sizes.
  package init(_ layout: RAMLayout, fileByteCounts: [UInt64]) {
    placement = RAMPlacement(
      layout,
      blocks: fileByteCounts.enumerated().map { index, byteCount in
        RAMPlacement.Block(byteCount: byteCount, fileIndex: index, fileOffset: 0)
      }
    )
    parts = []
    self.fileByteCounts = fileByteCounts
  }

  package init(placement: RAMPlacement, parts: [Part], byteCount: UInt64) {
    self.placement = placement
    self.parts = parts
    fileByteCounts = [byteCount]
  }

  /// What a stream of a single file consists of, in order.
  package enum Section {
    case ram(RAMPlacement.Piece)
    case part(Part)

    package var offset: UInt64 {
      switch self {
      case .ram(let piece): piece.fileOffset
      case .part(let part): part.offset
      }
    }

    package var endOffset: UInt64 {
      switch self {
      case .ram(let piece): piece.endFileOffset
      case .part(let part): part.endOffset
      }
    }
  }

  /// RAM and the other parts in ascending order of offset.
  package var sections: [Section] {
    (placement.pieces.map(Section.ram) + parts.map(Section.part)).sorted { $0.offset < $1.offset }
  }
}
