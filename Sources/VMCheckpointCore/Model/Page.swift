/// The size of a guest page, the unit of identity in a store.
///
/// vmckpt counts in 4 KiB pages whatever page size the guest's own tables use: it is the unit in
/// which x86 hypervisors place overlays, and the unit at which deduplication across boots works.
public enum Page {
  /// 4096.
  public static let byteCount = 4096

  /// `log2(byteCount)`: GPA >> 12 = PFN.
  public static let shift = 12

  /// The number of whole pages in `byteCount` bytes; a remainder is not counted.
  public static func count(inByteCount byteCount: UInt64) -> UInt64 {
    byteCount >> UInt64(shift)
  }
}
