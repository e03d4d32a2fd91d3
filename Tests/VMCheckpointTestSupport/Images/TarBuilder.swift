import Glibc

/// Writes tar archives byte by byte, also such as no program writes: what the library reads must not
/// depend on its own idea of a header.
package struct TarBuilder {
  package enum Format { case gnu, ustar, none }

  /// The archive so far.
  package private(set) var bytes: [UInt8] = []

  package init() {}

  /// A header block.
  ///
  /// - Parameter size: The size field, where it is not to be the octal number of `byteCount`.
  package static func header(
    _ name: String,
    byteCount: Int = 0,
    type: Character = "0",
    format: Format = .gnu,
    size: [UInt8]? = nil,
    prefix: String = "",
    checksumError: Int = 0
  ) -> [UInt8] {
    var block = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      block.replaceSubrange(offset..<(offset + text.utf8.count), with: text.utf8)
    }
    put(String(name.prefix(100)), at: 0)
    put(type == "5" ? "0000555\u{0}" : "0000444\u{0}", at: 100)
    put("0001750\u{0}", at: 108)
    put("0000012\u{0}", at: 116)
    put(octal(byteCount, digits: 11) + "\u{0}", at: 124)
    if let size { block.replaceSubrange(124..<136, with: size) }
    put("15111234567\u{0}", at: 136)
    put("        ", at: 148)
    put(String(type), at: 156)
    switch format {
    case .gnu: put("ustar  \u{0}", at: 257)
    case .ustar: put("ustar\u{0}00", at: 257)
    case .none: break
    }
    put(prefix, at: 345)
    let checksum = block.reduce(0) { $0 + Int($1) } + checksumError
    put(octal(checksum, digits: 6) + "\u{0} ", at: 148)
    return block
  }

  /// A size of 12 bytes in GNU's base 256.
  package static func base256(_ value: UInt64) -> [UInt8] {
    [0x80, 0, 0, 0] + (0..<8).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }

  private static func octal(_ value: Int, digits: Int) -> String {
    let text = String(value, radix: 8)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// Appends bytes as they are.
  package mutating func append(_ more: [UInt8]) {
    bytes += more
  }

  /// Appends a member's data, filled up to a block.
  package mutating func appendData(_ data: [UInt8]) {
    bytes += data
    bytes += [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
  }

  /// Appends a file.
  package mutating func file(_ name: String, _ data: [UInt8], format: Format = .gnu) {
    bytes += Self.header(name, byteCount: data.count, format: format)
    appendData(data)
  }

  /// Appends a text file.
  package mutating func file(_ name: String, _ text: String, format: Format = .gnu) {
    file(name, Array(text.utf8), format: format)
  }

  /// Appends a directory.
  package mutating func directory(_ name: String, format: Format = .gnu) {
    bytes += Self.header(name, type: "5", format: format)
  }

  /// Appends the two blocks of zeros that end an archive.
  package mutating func end() {
    bytes += [UInt8](repeating: 0, count: 1024)
  }
}

/// The members of a snapshot of propolis-standalone.
package struct PropolisSample {
  package var config: String
  package var global = #"{"boot_hrtime":-1234567890123}"#
  /// Names and texts, in order.
  package var devices: [(name: String, json: String)]
  package var ram: [UInt8]

  /// A guest with `mebibytes` of RAM.
  package init(mebibytes: Int = 1, seed: UInt64 = 1) {
    config = Self.config(mebibytes: mebibytes)
    devices = [
      ("bhyve-apic", Self.device("bhyve-apic", kind: "bhyve-x86-lapic", data: #"{\"id\":0}"#)),
      ("vcpu-0", Self.device("vcpu-0", kind: "bhyve-x86-vcpu-gpregs", data: #"{\"rip\":1}"#)),
    ]
    ram = sampleRAM(mebibytes * 256, seed: seed)
  }

  /// A `config.toml` with this `main.memory`.
  package static func config(mebibytes: Int) -> String {
    "[main]\nname = \"web\"\ncpus = 2\nmemory = \(mebibytes)\nbootrom = \"/rom [main]\"\n\n"
      + "[block_dev.disk0]\ntype = \"file\"\npath = \"/disk\" # memory = 7\n"
  }

  /// The JSON of a device with one payload. `data` has its quotation marks escaped.
  package static func device(
    _ name: String,
    kind: String,
    version: Int = 1,
    data: String
  ) -> String {
    #"{"instance_name":"\#(name)","payload":[{"kind":"\#(kind)","version":\#(version),"#
      + #""data":"\#(data)"}]}"#
  }

  /// The device that keeps the guest's Hyper-V registers.
  package mutating func addHyperV(_ data: String, version: Int = 1) {
    let escaped = data.split(separator: "\"", omittingEmptySubsequences: false)
      .joined(separator: #"\""#)
    devices.insert(
      (
        "hyperv",
        Self.device("hyperv", kind: "guest-hyperv-interface", version: version, data: escaped)
      ),
      at: 1
    )
  }

  /// Everything before RAM.
  package func beginning(format: TarBuilder.Format = .gnu) -> TarBuilder {
    var tar = TarBuilder()
    tar.file("config.toml", config, format: format)
    tar.file("global.json", global, format: format)
    tar.directory("devices/", format: format)
    tar.directory("memory/", format: format)
    for device in devices {
      tar.file("devices/\(device.name).json", device.json, format: format)
    }
    return tar
  }

  /// `memory/START-END.bin` for RAM from 0 on.
  package var memoryName: String {
    let end = String(ram.count, radix: 16)
    return "memory/00000000-\(String(repeating: "0", count: 8 - end.count))\(end).bin"
  }

  /// The whole archive.
  package func archive(format: TarBuilder.Format = .gnu) -> TarBuilder {
    var tar = beginning(format: format)
    tar.file(memoryName, ram, format: format)
    tar.end()
    return tar
  }
}

/// Writes bytes at offsets of a new file of this size; the rest are holes.
package func writeSparseFile(
  _ path: String,
  byteCount: Int,
  _ parts: [(offset: Int, bytes: [UInt8])]
) throws {
  try makeHole(path, byteCount: byteCount)
  for (offset, bytes) in parts { try patchFile(path, at: offset, bytes) }
}
