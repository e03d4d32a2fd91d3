package import VMCheckpoint
import VMCheckpointFormats

/// What is made of QEMU's description of its memory, for tests.
package enum QEMUMemoryTreeProbe {
  /// Whether what `text`, the answer to `info mtree -f`, shows of `blocks` is where `layout` says.
  package static func agrees(
    _ text: String,
    with layout: RAMLayout,
    blocks: [(name: String, byteCount: UInt64)]
  ) -> Bool {
    QEMUMemoryTree(text).agrees(with: layout, blocks: blocks)
  }
}
