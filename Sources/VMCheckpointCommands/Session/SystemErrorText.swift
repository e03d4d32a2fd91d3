import Glibc

/// What the C library says about an `errno` value, such as `No space left on device`.
func systemErrorText(_ errorNumber: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 256)
  guard strerror_r(errorNumber, &buffer, buffer.count) == 0 else {
    return "error \(errorNumber)"
  }
  return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
