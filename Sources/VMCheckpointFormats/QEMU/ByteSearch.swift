import CLinux

extension [UInt8] {
  /// Where `bytes` are first, at or behind `start`; `nil`: nowhere.
  ///
  /// By libc: what the standard library has for all collections takes milliseconds for a device's state.
  ///
  /// - Precondition: 0 ≤ `start` ≤ `count`.
  func firstIndex(of bytes: [UInt8], from start: Int) -> Int? {
    withUnsafeBytes { all in
      bytes.withUnsafeBytes { wanted in
        guard let wantedStart = wanted.baseAddress, let base = all.baseAddress else {
          return wanted.isEmpty ? start : nil
        }
        return clinux_find(base + start, all.count - start, wantedStart, wanted.count)
          .map { $0 - base }
      }
    }
  }
}
