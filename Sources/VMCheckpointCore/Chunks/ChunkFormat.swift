/// The numbers of a chunk; the DocC article "Format" draws them.
package enum ChunkFormat {
  /// Guest pages in a chunk. More pack no better (see "Format"), and a page is decoded after all before it.
  package static let pageCapacity = 16

  /// A chunk's pages, uncompressed.
  package static let byteCapacity = pageCapacity * Page.byteCount

  /// The longest stored form of a chunk: an LZ4 frame is only kept when it is shorter than that.
  package static let maximumStoredByteCount = byteCapacity
}
