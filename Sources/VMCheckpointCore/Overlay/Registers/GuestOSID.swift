/// What a guest says it is: HV_X64_MSR_GUEST_OS_ID, which it writes before it enables its
/// hypercall page (TLFS 2.6).
public struct GuestOSID: Hashable, Sendable, RawRepresentable {
  /// 0x40000000.
  public static let msrIndex: UInt32 = 0x4000_0000

  /// What the register reads as.
  public let rawValue: UInt64

  /// Every value is allowed; 0: the guest never set it.
  public init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// The two layouts, which bit 63 tells apart (TLFS 2.6.1 and 2.6.2).
  public enum Identity: Hashable, Sendable {
    /// Bit 63 is 0.
    ///
    ///     bits   62:48  vendor (1: Microsoft)
    ///            47:40  operating system
    ///            39:32  major version
    ///            31:24  minor version
    ///            23:16  service version
    ///            15:0   build
    case proprietary(
      vendor: UInt16,
      operatingSystem: UInt8,
      major: UInt8,
      minor: UInt8,
      service: UInt8,
      build: UInt16
    )

    /// Bit 63 is 1.
    ///
    ///     bits   62:56  type (1: Linux, 2: FreeBSD, 3: Xen, 4: illumos)
    ///            55:48  what the type's vendor defines
    ///            47:16  version
    ///            15:0   build
    case openSource(type: UInt8, osID: UInt8, version: UInt32, build: UInt16)
  }

  /// The register's fields; `nil` when the guest never set it.
  public var identity: Identity? {
    guard rawValue != 0 else { return nil }
    let build = UInt16(truncatingIfNeeded: rawValue)
    guard rawValue >> 63 == 1 else {
      return .proprietary(
        vendor: UInt16(truncatingIfNeeded: rawValue >> 48),
        operatingSystem: UInt8(truncatingIfNeeded: rawValue >> 40),
        major: UInt8(truncatingIfNeeded: rawValue >> 32),
        minor: UInt8(truncatingIfNeeded: rawValue >> 24),
        service: UInt8(truncatingIfNeeded: rawValue >> 16),
        build: build
      )
    }
    return .openSource(
      type: UInt8(truncatingIfNeeded: rawValue >> 56) & 0x7f,
      osID: UInt8(truncatingIfNeeded: rawValue >> 48),
      version: UInt32(truncatingIfNeeded: rawValue >> 16),
      build: build
    )
  }
}

extension GuestOSID: CustomStringConvertible {
  /// For people: `Linux 6.1.0`, `Microsoft OS 4 10.0.0 build 19041`, `not set`.
  public var description: String {
    switch identity {
    case nil:
      return "not set"
    case .proprietary(let vendor, let system, let major, let minor, let service, let build):
      let name = vendor == 1 ? "Microsoft" : "vendor \(vendor)"
      return "\(name) OS \(system) \(major).\(minor).\(service) build \(build)"
    case .openSource(1, _, let version, _):
      // Linux writes LINUX_VERSION_CODE: major << 16 | minor << 8 | patch.
      return "Linux \(version >> 16).\(version >> 8 & 0xff).\(version & 0xff)"
    case .openSource(let type, let osID, let version, let build):
      let names: [UInt8: String] = [2: "FreeBSD", 3: "Xen", 4: "illumos"]
      let name = names[type] ?? "open-source type \(type)"
      return "\(name) OS \(osID) version \(hexString(UInt64(version))) build \(build)"
    }
  }
}
