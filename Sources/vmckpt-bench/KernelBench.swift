import CLZ4
import Glibc
import VMCheckpoint
import VMCheckpointKernels

/// Runs every kernel and its limits, one after the other.
struct KernelBench {
  private static let blockByteCount = 64 << 10
  private static let lookupCount = 200_000

  private let image: BenchImage
  private let probe: KernelProbe
  private let index: IndexScaleProbe
  private let scratch: String
  /// The pages that are not zero, one after another: what the limits work on.
  private let data: UnsafeMutableRawBufferPointer
  private let copy: UnsafeMutableRawBufferPointer
  /// As long as the image.
  private let zeros: UnsafeMutableRawBufferPointer
  private let compressed: UnsafeMutableRawBufferPointer
  private let blockSizes: UnsafeMutablePointer<Int32>
  private var times: [String: [Double]] = [:]

  init(_ image: BenchImage, scratch: String, indexPageCount: Int) throws {
    self.image = image
    self.scratch = scratch
    probe = try KernelProbe(ram: UnsafeRawBufferPointer(image.bytes))
    guard !probe.dataPageIndices.isEmpty else { throw BenchError("the image is all zeros") }
    index = try IndexScaleProbe(path: "\(scratch)/index.db", seed: 1)
    while index.pageCount < indexPageCount {
      try index.insertChunks(min(100_000, indexPageCount - index.pageCount))
      try index.append()
      try index.merge()
    }
    data = .allocate(byteCount: probe.dataByteCount, alignment: BenchImage.pageByteCount)
    copy = .allocate(byteCount: image.bytes.count, alignment: BenchImage.pageByteCount)
    copy.initializeMemory(as: UInt8.self, repeating: 1)
    zeros = .allocate(byteCount: image.bytes.count, alignment: BenchImage.pageByteCount)
    zeros.initializeMemory(as: UInt8.self, repeating: 0)
    for (place, page) in probe.dataPageIndices.enumerated() {
      (data.baseAddress! + place * BenchImage.pageByteCount).copyMemory(
        from: image.bytes.baseAddress! + page * BenchImage.pageByteCount,
        byteCount: BenchImage.pageByteCount
      )
    }
    let blockCount = (data.count + Self.blockByteCount - 1) / Self.blockByteCount
    let bound = Int(LZ4_compressBound(Int32(Self.blockByteCount)))
    compressed = .allocate(byteCount: blockCount * bound, alignment: 64)
    blockSizes = .allocate(capacity: blockCount)
    blockSizes.initialize(repeating: 0, count: blockCount)
  }

  /// One run of all.
  mutating func run() throws {
    func add(_ name: String, _ seconds: Double) { times[name, default: []].append(seconds) }
    add("copy image", measure { copy.copyMemory(from: UnsafeRawBufferPointer(image.bytes)) })
    add("scan", measure { keep(probe.scan()) })
    add(
      "scan zeros",
      measure { keep(KernelProbe.zeroPageCount(in: UnsafeRawBufferPointer(zeros))) }
    )
    add("copy data", measure { copyData() })
    add("digest", measure { keep(probe.digest()) })
    add("fingerprint", measure { keep(probe.fingerprint()) })
    add("pack", measure { keep(probe.pack()) })
    add("lz4 compress", measure { compressBlocks() })
    add("pack and compress", measure { keep(probe.packAndCompress()) })
    add("lz4 decode", measure { decompressBlocks() })
    add("decode", try measure { try probe.decode() })
    add("scatter", try measure { try probe.scatter(to: "\(scratch)/ram") })
    for present in [false, true] {
      let found = try index.lookUp(Self.lookupCount, present: present, clock: threadSeconds)
      guard found.foundCount == (present ? Self.lookupCount : 0) else {
        throw BenchError("\(found.foundCount) of \(Self.lookupCount) pages were found")
      }
      add(present ? "hit" : "miss", found.againSeconds)
    }
  }

  var report: KernelReport {
    let (imageBytes, dataBytes) = (image.bytes.count, data.count)
    let lookupBytes = Self.lookupCount * BenchImage.pageByteCount
    func speed(_ name: String, _ byteCount: Int) -> Double {
      Double(byteCount) / median(times[name] ?? [])
    }
    let imageCopy = speed("copy image", imageBytes)
    let dataCopy = speed("copy data", dataBytes)
    func kernel(_ name: String, _ key: String, lz4: String? = nil) -> KernelReport.Kernel {
      KernelReport.Kernel(
        name: name,
        bytes: dataBytes,
        bytesPerSecond: speed(key, dataBytes),
        memcpyBytesPerSecond: dataCopy,
        lz4BytesPerSecond: lz4.map { speed($0, dataBytes) }
      )
    }
    func scan(_ name: String, _ key: String) -> KernelReport.Kernel {
      KernelReport.Kernel(
        name: name,
        bytes: imageBytes,
        bytesPerSecond: speed(key, imageBytes),
        memcpyBytesPerSecond: imageCopy,
        lz4BytesPerSecond: nil
      )
    }
    func lookup(_ name: String, _ key: String) -> KernelReport.Kernel {
      KernelReport.Kernel(
        name: name,
        bytes: lookupBytes,
        bytesPerSecond: speed(key, lookupBytes),
        memcpyBytesPerSecond: dataCopy,
        lz4BytesPerSecond: nil,
        secondsPerPage: Double(BenchImage.pageByteCount) / speed(key, lookupBytes)
      )
    }
    return KernelReport(
      image: image.title,
      runs: times["scan"]?.count ?? 0,
      storedBytes: probe.storedByteCount,
      dataBytes: dataBytes,
      kernels: [
        scan("zero scan of the image", "scan"),
        scan("zero scan of zeros", "scan zeros"),
        kernel("fingerprint (XXH3)", "fingerprint"),
        kernel("digest (SHA-256)", "digest"),
        kernel("pack into chunks", "pack"),
        kernel("pack and compress", "pack and compress", lz4: "lz4 compress"),
        kernel("decode", "decode", lz4: "lz4 decode"),
        kernel("scatter to a new file", "scatter"),
        lookup("index lookup, page not there", "miss"),
        lookup("index lookup, page there", "hit"),
      ]
    )
  }

  private func copyData() { copy.copyMemory(from: UnsafeRawBufferPointer(data)) }

  private func compressBlocks() {
    let bound = Int(LZ4_compressBound(Int32(Self.blockByteCount)))
    for (block, start) in stride(from: 0, to: data.count, by: Self.blockByteCount).enumerated() {
      blockSizes[block] = LZ4_compress_fast(
        (data.baseAddress! + start).assumingMemoryBound(to: CChar.self),
        (compressed.baseAddress! + block * bound).assumingMemoryBound(to: CChar.self),
        Int32(min(Self.blockByteCount, data.count - start)),
        Int32(bound),
        1
      )
    }
  }

  private func decompressBlocks() {
    let bound = Int(LZ4_compressBound(Int32(Self.blockByteCount)))
    for (block, start) in stride(from: 0, to: data.count, by: Self.blockByteCount).enumerated() {
      keep(
        LZ4_decompress_safe(
          (compressed.baseAddress! + block * bound).assumingMemoryBound(to: CChar.self),
          copy.baseAddress!.assumingMemoryBound(to: CChar.self),
          blockSizes[block],
          Int32(min(Self.blockByteCount, data.count - start))
        )
      )
    }
  }
}
