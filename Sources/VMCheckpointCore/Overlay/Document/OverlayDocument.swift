/// The contents of an overlays.json: the overlays that covered a guest's RAM at one moment.
///
/// Its JSON Schema is `Schema/overlays.schema.json`.
public struct OverlayDocument: Hashable, Sendable {
  /// The only value of `format` that there is.
  public static let format: UInt32 = 1

  /// KVM allows 4096 virtual processors, each with three pages, and two pages for the VM make
  /// 12,290 overlays; the next power of two.
  public static let maximumRecordCount = 16_384

  /// 256 MiB: a record takes at most 11.3 KB (contents and underlay of 5464 characters each, and
  /// the rest), so ``maximumRecordCount`` of them take 185 MB.
  public static let maximumByteCount = 256 << 20

  /// What the guest wrote to HV_X64_MSR_GUEST_OS_ID; `nil`: unknown; 0: the guest never set it.
  public var guestOSID: UInt64?

  /// In the file's order, which has no meaning.
  public var records: [OverlayRecord]

  /// A document that nothing has been checked of.
  public init(guestOSID: UInt64?, records: [OverlayRecord]) {
    self.guestOSID = guestOSID
    self.records = records
  }
}
