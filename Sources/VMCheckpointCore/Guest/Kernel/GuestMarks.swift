/// What a guest's RAM shows of its system where no kernel that can be read was found: marks that systems leave,
/// looked for in a second pass. Hints, all of them: any process of the guest can have written them.
struct GuestMarks {
  /// The names of a Linux system as `uname` gives them, from the first place that has them.
  private(set) var names: SystemNames?
  /// What a kernel says of its version when it begins.
  private(set) var banner: String?
  /// The name of the file with the debugging symbols of Windows's kernel, as `ntkrnlmp.pdb`.
  private(set) var windowsKernel: String?
  /// Whether a page is a page table of 32-bit x86 with a kernel's half as Linux maps it.
  private(set) var has32BitTables = false
  /// Of the pages that are not zero, how many were looked at, and how many look random.
  private var sampleCount = 0
  private var randomCount = 0

  struct SystemNames {
    /// Whether they are of the system, and not perhaps a container's.
    var areInitial: Bool
    var host: String
    var release: String
    var version: String
    var machine: String
  }

  /// Every such page is one of a sample.
  private static let sampleStep = 8
  /// Fewer pages say nothing of all.
  private static let minimumSampleCount = 64

  init(_ ram: any GuestRAM) throws {
    var marks = self
    var visited = 0
    try ram.visitPages(from: 0) { pfn, page in
      visited += 1
      if visited & 0x3fff == 0 { try ram.poll() }
      try marks.look(ram, pfn << UInt64(Page.shift), page, isSample: visited % Self.sampleStep == 0)
      return true
    }
    self = marks
  }

  /// Whether nearly all that is not zero looks random, as encrypted memory does.
  var looksEncrypted: Bool {
    sampleCount >= Self.minimumSampleCount && randomCount * 100 >= sampleCount * 95
  }

  /// "Linu" and "RSDS", as little-endian numbers.
  private static let linux: UInt32 = 0x756e_694c
  private static let debuggingRecord: UInt32 = 0x5344_5352

  private mutating func look(
    _ ram: any GuestRAM,
    _ gpa: UInt64,
    _ page: UnsafeRawPointer,
    isSample: Bool
  ) throws {
    let words = page.assumingMemoryBound(to: UInt32.self)
    for index in 0..<(Page.byteCount / 4) {
      let word = UInt32(littleEndian: words[index])
      if word == Self.linux, names?.areInitial != true || banner == nil {
        try readLinux(ram, gpa + UInt64(index * 4))
      } else if word == Self.debuggingRecord, windowsKernel == nil {
        try readDebuggingRecord(ram, gpa + UInt64(index * 4))
      }
    }
    if !has32BitTables { has32BitTables = Self.is32BitTable(words) }
    guard isSample else { return }
    sampleCount += 1
    if Self.looksRandom(UnsafeRawBufferPointer(start: page, count: Page.byteCount)) {
      randomCount += 1
    }
  }

  // MARK: Linux

  /// Of each of the six names in the kernel's structure.
  private static let nameByteCount = 65
  private static let bannerBeginning = Array("Linux version ".utf8)

  private mutating func readLinux(_ ram: any GuestRAM, _ gpa: UInt64) throws {
    if banner == nil, let bytes = try ram.bytes(gpa, count: 256),
      bytes.starts(with: Self.bannerBeginning)
    {
      let text = bytes.prefix { $0 != 0 && $0 != 0x0a }
      // A format for it has "%s" there.
      if (0x30...0x39).contains(text[Self.bannerBeginning.count]) {
        banner = GuestText.escaped(text)
      }
    }
    guard names?.areInitial != true,
      let bytes = try ram.bytes(gpa, count: 6 * Self.nameByteCount)
    else { return }
    let texts = (0..<6).map { index -> [UInt8]? in
      let field = bytes[(index * Self.nameByteCount)...].prefix(Self.nameByteCount)
      let text = field.prefix { $0 != 0 }
      // Nothing but zeros is behind a name.
      return field.dropFirst(text.count).allSatisfy { $0 == 0 } ? Array(text) : nil
    }
    guard texts[0] == Array("Linux".utf8), let host = texts[1], let release = texts[2],
      let version = texts[3], let machine = texts[4], version.first == 0x23, !machine.isEmpty,
      release.first.map({ (0x30...0x39).contains($0) }) == true
    else { return }
    let areInitial = try isInitialNamespace(ram, gpa + UInt64(6 * Self.nameByteCount))
    guard names == nil || areInitial else { return }
    names = SystemNames(
      areInitial: areInitial,
      host: GuestText.escaped(host),
      release: GuestText.escaped(release),
      version: GuestText.escaped(version),
      machine: GuestText.escaped(machine)
    )
  }

  /// The number of the first namespace of names (PROC_UTS_INIT_INO), which is behind them in its structure.
  private static let initialNamespaceNumber: UInt32 = 0xefff_fffe
  private static let numberReach = 64

  /// Whether the names before `gpa` are the system's own, and not a container's or a process's copy.
  private func isInitialNamespace(_ ram: any GuestRAM, _ gpa: UInt64) throws -> Bool {
    for offset in stride(from: gpa, to: gpa + UInt64(Self.numberReach), by: 2)
    where try ram.number(offset, as: UInt32.self) == Self.initialNamespaceNumber {
      return true
    }
    return false
  }

  // MARK: Windows

  /// Of the record that each program of Windows has: "RSDS", 16 bytes, a number, then the name of its symbols.
  private static let recordNameOffset: UInt64 = 24
  private static let windowsKernels = [
    "ntkrnlmp.pdb", "ntkrnlpa.pdb", "ntkrpamp.pdb", "ntoskrnl.pdb", "ntkrla57.pdb",
  ]

  private mutating func readDebuggingRecord(_ ram: any GuestRAM, _ gpa: UInt64) throws {
    guard let bytes = try ram.bytes(gpa &+ Self.recordNameOffset, count: 13), bytes[12] == 0
    else { return }
    let name = String(decoding: bytes[..<12], as: UTF8.self)
    if Self.windowsKernels.contains(name) { windowsKernel = name }
  }

  // MARK: Pages

  /// Whether the page is a top page table of x86 with entries of 32 bits, whose upper quarter maps the beginning
  /// of RAM in pages of 4 MiB, one after the other.
  private static func is32BitTable(_ words: UnsafePointer<UInt32>) -> Bool {
    for index in 0..<8 {
      let entry = UInt32(littleEndian: words[768 + index])
      // Present, of 4 MiB, for the kernel.
      guard entry & 0xffc0_0085 == UInt32(index) << 22 | 0x81 else { return false }
    }
    return true
  }

  /// Whether all byte values come about as often as in random bytes: 16 times each, 255 ± 23 in the test's sum.
  private static func looksRandom(_ bytes: UnsafeRawBufferPointer) -> Bool {
    withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 256) { counts in
      counts.initialize(repeating: 0)
      for byte in bytes { counts[Int(byte)] += 1 }
      let sum = counts.reduce(0) { $0 + (Int($1) - 16) * (Int($1) - 16) }
      return sum < 16 * 400
    }
  }
}

extension GuestMarks {
  /// In one sentence without a full stop, what the guest is, as far as can be seen, and what is missing.
  ///
  /// - Parameters:
  ///   - hasTypes: Whether a kernel's type information was found.
  ///   - isLinux: Whether what a kernel says to crash dumps was.
  ///   - hasDamagedSymbols: Whether what may be a part of its symbols was.
  ///   - loss: What a dump left out, as the sentence's end.
  func sentence(
    hasTypes: Bool,
    isLinux: Bool,
    hasDamagedSymbols: Bool,
    loss: String
  ) -> String {
    let symbols =
      "its table of symbols (kallsyms) is " + (hasDamagedSymbols ? "damaged, or " : "")
      + "not in RAM"
    let found =
      if let names, Self.isNarrow(names.machine) {
        "it is a 32-bit Linux (\(names.machine))"
      } else if let names, !["x86_64", "aarch64"].contains(names.machine) {
        "it is a Linux for another processor (\(names.machine))"
      } else if hasTypes {
        "the kernel's types are there, but \(symbols)"
      } else if isLinux || names != nil || banner != nil, !has32BitTables {
        "a Linux is there, but \(symbols)"
      } else if let windowsKernel {
        "it is Windows (\(windowsKernel)), whose types are not in its RAM"
      } else if has32BitTables {
        "its page tables are those of a 32-bit system"
      } else if looksEncrypted {
        "nearly all pages look random, as encrypted memory (SEV, TDX) does"
      } else {
        "nothing in RAM is like one"
      }
    return "no 64-bit Linux kernel was found: \(found)\(loss)"
  }

  private static func isNarrow(_ machine: String) -> Bool {
    (machine.count == 4 && machine.hasPrefix("i") && machine.hasSuffix("86"))
      || (machine.hasPrefix("arm") && !machine.hasPrefix("arm64"))
  }
}
