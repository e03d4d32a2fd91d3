import Foundation

/// Writes a libvirt save image from its documented layout, without the library's help.
package struct LibvirtImageBuilder {
  package var magic = "LibvirtQemudSave"
  package var version: UInt32 = 2
  package var format: UInt32 = 0
  package var wasRunning: UInt32 = 1
  package var xml = "<domain type='qemu'><name>guest</name></domain>"
  package var cookie: String? = "<cookie><slirpHelper/></cookie>"
  package var room = 512
  /// Instead of the length that there is.
  package var dataByteCount: UInt32?
  /// Instead of the place where the cookie begins.
  package var cookieOffset: UInt32?
  package var isByteSwapped = false

  package init() {}

  /// The image with a stream behind it, as it is.
  package func image(stream: [UInt8]) -> [UInt8] {
    var data = Array(xml.utf8) + [0]
    let offset = cookie == nil ? 0 : UInt32(data.count)
    if let cookie { data += Array(cookie.utf8) + [0] }
    data += [UInt8](repeating: 0, count: room)
    var bytes = Array(magic.utf8)
    let numbers = [
      version, dataByteCount ?? UInt32(data.count), wasRunning, format, cookieOffset ?? offset,
    ]
    for number in numbers {
      withUnsafeBytes(of: isByteSwapped ? number.bigEndian : number.littleEndian) { bytes += $0 }
    }
    return bytes + [UInt8](repeating: 0, count: 92 - bytes.count) + data + stream
  }

  /// Compresses as libvirt's image formats do: 1 gzip, 2 bzip2, 3 xz, 4 lzop, 5 zstd.
  package static func compress(_ bytes: [UInt8], format: UInt32) throws -> [UInt8] {
    let program = [1: "gzip", 2: "bzip2", 3: "xz", 4: "lzop", 5: "zstd"][format]
    guard let program else { return bytes }
    let directory = try TemporaryDirectory()
    let path = directory.file("plain")
    try writeSparseFile(path, bytes)
    let outcome = try run(["/usr/bin/env", program, "-c", path])
    guard outcome.succeeded else { throw TestSetupError("\(program) failed: \(outcome)") }
    return outcome.standardOutput
  }
}
