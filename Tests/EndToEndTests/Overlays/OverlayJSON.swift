import Foundation
import VMCheckpointTestSupport

/// overlays.json and page bytes as a test writes them, without the library's help.
enum OverlayJSON {
  static func document(_ records: String..., guestOSID: String? = nil) -> String {
    let guest = guestOSID.map { #""guest_os_id":"\#($0)","# } ?? ""
    return #"{"format":1,\#(guest)"overlays":[\#(records.joined(separator: ","))]}"#
  }

  static func record(_ members: String, underlay: String?) -> String {
    let underlay = underlay.map { #","underlay":"\#($0)""# } ?? ""
    return "{\(members)\(underlay)}"
  }

  static func base64(_ page: [UInt8]) -> String { Data(page).base64EncodedString() }

  /// A page that begins with `bytes` and is zero behind them.
  static func page(_ bytes: [UInt8]) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: 4096 - bytes.count)
  }

  static let propolisHypercall = page([0x48, 0xc7, 0xc0, 0x02, 0x00, 0x00, 0x00, 0xc3])
  static let vmcall = page([0x0f, 0x01, 0xc1, 0xc3])
  static let vmmcall = page([0x0f, 0x01, 0xd9, 0xc3])

  /// HV_REFERENCE_TSC_PAGE.
  static func tscPage(sequence: UInt32, scale: UInt64, offset: Int64) -> [UInt8] {
    func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    return page(bytes(sequence) + bytes(UInt32(0)) + bytes(scale) + bytes(offset))
  }

  /// 10⁷ · 2⁶⁴ / hz, by long division.
  static func scale(hz: UInt64) -> UInt64 {
    var (remainder, quotient) = (UInt64(10_000_000) % hz, UInt64(0))
    for _ in 0..<64 {
      quotient <<= 1
      remainder <<= 1
      if remainder >= hz {
        remainder -= hz
        quotient |= 1
      }
    }
    return quotient
  }
}

extension [UInt8] {
  /// The page at `pfn` of flat RAM from GPA 0.
  func page(_ pfn: Int) -> [UInt8] { Array(self[(pfn * 4096)..<((pfn + 1) * 4096)]) }

  /// RAM with another page at `pfn`.
  func replacingPage(_ pfn: Int, with page: [UInt8]) -> [UInt8] {
    var ram = self
    ram.replaceSubrange((pfn * 4096)..<((pfn + 1) * 4096), with: page)
    return ram
  }
}
