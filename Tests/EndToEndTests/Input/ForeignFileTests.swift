import Testing
import VMCheckpointTestSupport

/// A file of a known kind that is not RAM would restore to what no guest ever had, so it is refused by
/// name, also when its size is a multiple of 4096.
@Suite struct ForeignFileTests {
  private static let kinds: [(title: String, magic: [UInt8], offset: Int)] = [
    ("a gzip file", [0x1f, 0x8b, 0x08, 0x00], 0),
    ("an xz file", [0xfd] + Array("7zXZ".utf8) + [0], 0),
    ("a zstd file", [0x28, 0xb5, 0x2f, 0xfd], 0),
    ("an LZ4 file", [0x04, 0x22, 0x4d, 0x18], 0),
    ("a bzip2 file", Array("BZh91AY&SY".utf8), 0),
    ("a qcow2 disk image", Array("QFI".utf8) + [0xfb], 0),
    ("a VMDK disk image", Array("KDMV".utf8), 0),
    ("a VHDX disk image", Array("vhdxfile".utf8), 0),
    ("a VHD disk image", Array("conectix".utf8), 0),
    ("a VDI disk image", [0x7f, 0x10, 0xda, 0xbe], 64),
    ("an ISO 9660 image", Array("CD001".utf8), 32769),
    ("a squashfs image", Array("hsqs".utf8), 0),
    ("a tar archive", Array("ustar".utf8), 257),
    ("a zip archive", [0x50, 0x4b, 0x03, 0x04], 0),
    ("a cpio archive", Array("070701".utf8), 0),
    ("an ELF program", [0x7f] + Array("ELF".utf8) + [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0], 0),
    ("an ELF core without program headers", elfWithoutHeaders, 0),
    ("an SQLite database", Array("SQLite format 3".utf8) + [0], 0),
    ("a Windows crash dump", Array("PAGEDU64".utf8), 0),
    ("a zstd or LZ4 file", [0x5e, 0x2a, 0x4d, 0x18], 0),
    ("an lrzip file", Array("LRZI".utf8), 0),
    ("an lzma file", [0x5d, 0, 0, 0x80, 0] + [UInt8](repeating: 0xff, count: 8) + [0], 0),
    ("a Parallels disk image", Array("WithouFreSpacExt".utf8), 0),
    ("a disk with a GPT", Array("EFI PART".utf8), 512),
    ("a disk with an MBR", partitionTable, 446),
    ("an ext2, ext3 or ext4 file system", extSuperblock, 1024),
    ("an XFS file system", Array("XFSB".utf8), 0),
    ("a Btrfs file system", Array("_BHRfS_M".utf8), 0x10040),
    ("an EROFS image", [0xe2, 0xe1, 0xf5, 0xe0], 1024),
    ("a squashfs image", Array("sqsh".utf8), 0),
    ("an F2FS file system", [0x10, 0x20, 0xf5, 0xf2], 1024),
    ("an NTFS file system", Array("NTFS    ".utf8), 3),
    ("a FAT file system", Array("FAT32   ".utf8), 82),
    ("a swap area", Array("SWAPSPACE2".utf8), 4086),
    ("an LVM physical volume", Array("LABELONE".utf8), 512),
    ("a zip archive", [0x50, 0x4b, 0x07, 0x08], 0),
    ("a VirtualBox saved state", [0x7f] + Array("VirtualBox SavedState V2.0\n".utf8), 0),
    ("a Xen saved domain", Array("Xen saved domain, xl format\n".utf8), 0),
    ("a Xen migration stream", [UInt8](repeating: 0xff, count: 8) + Array("XENF".utf8), 0),
  ]

  /// One Linux partition of 8 sectors, from the first.
  private static let partitionTable =
    [0x80, 0, 2, 0, 0x83, 0, 9, 0, 1, 0, 0, 0, 8, 0, 0, 0] + [UInt8](repeating: 0, count: 48)
    + [0x55, 0xaa]

  /// The fields that it is known by, of a new file system of 4 MiB.
  private static let extSuperblock: [UInt8] = {
    var block = [UInt8](repeating: 0, count: 1024)
    for (offset, value) in [(0x01, 4), (0x05, 16), (0x14, 1), (0x3a, 1), (0x3c, 1), (0x4c, 1)] {
      block[offset] = UInt8(value)
    }
    block.replaceSubrange(0x38..<0x3a, with: [0x53, 0xef])
    return block
  }()

  /// What Xen writes.
  private static let elfWithoutHeaders =
    [0x7f] + Array("ELF".utf8) + [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]
    + [UInt8](repeating: 0, count: 46)

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Twenty pages that begin with a kind's magic bytes.
  private func bytes(_ kind: (title: String, magic: [UInt8], offset: Int)) -> [UInt8] {
    var bytes = [UInt8](repeating: 0x5a, count: 20 * 4096)
    bytes.replaceSubrange(kind.offset..<(kind.offset + kind.magic.count), with: kind.magic)
    return bytes
  }

  @Test(arguments: kinds.indices)
  func aFileOfAKnownKindIsNotStoredAsRAM(index: Int) throws {
    let kind = Self.kinds[index]
    let path = try bench.write("x.img", bytes(kind))
    let before = bench.directory.entries
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(
      outcome.standardError.hasPrefix(
        "vmckpt: SOURCE \"\(path)\" is \(kind.title), and is not a guest's RAM; "
      ),
      "\(outcome)"
    )
    #expect(outcome.standardError.contains("raw:\(path) stores its bytes as RAM"), "\(outcome)")
    #expect(bench.directory.entries == before)
  }

  @Test(.slow, arguments: kinds.indices)
  func aStreamOfAKnownKindIsNotStoredAsRAM(index: Int) throws {
    let kind = Self.kinds[index]
    let path = try bench.write("x.img", bytes(kind))
    let outcome = try bench.tool.run("save", "-", "--name", "x", input: .file(path))
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(
      outcome.standardError.hasPrefix(
        "vmckpt: standard input is \(kind.title), and is not a guest's RAM; "
      ),
      "\(outcome)"
    )
    #expect(try !bench.tool.run("show", "x").succeeded)
  }

  /// Its length, which is no RAM's, must not be told in place of what it is.
  @Test(arguments: [5000, (1 << 20) + 5000])
  func aStreamOfAKnownKindIsNamedWhateverItsLength(byteCount: Int) throws {
    var generator = TestGenerator(seed: 5)
    let noise = (0..<byteCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    let path = try bench.write("x.gz", [0x1f, 0x8b, 0x08, 0x00] + noise)
    for _ in 0..<8 {
      let outcome = try bench.tool.run("save", "-", input: .file(path))
      #expect(outcome.ending == .exit(65), "\(outcome)")
      #expect(outcome.standardError.contains("standard input is a gzip file"), "\(outcome)")
    }
  }

  /// Tar before POSIX has no magic number.
  @Test func anOldTarIsNotStoredAsRAM() throws {
    let source = try bench.write("member", sampleRAM(3))
    let path = bench.directory.file("old.tar")
    #expect(
      try run([
        "/bin/tar", "--format=v7", "-C", bench.directory.path, "-cf", path, "member",
      ]).succeeded,
      "\(source)"
    )
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("is a tar archive"), "\(outcome)")
  }

  /// What has no magic number, or a short one, is known by more, which RAM may have in part.
  @Test(
    arguments: [
      // Vectors that end as a partition table does; a superblock's magic number; an lzma file's properties.
      (510, [0x55, 0xaa]), (1024 + 0x38, [0x53, 0xef]), (0, [0x5d, 0, 0, 0x80, 0]),
    ] as [(Int, [UInt8])]
  )
  func ramThatLooksALittleLikeADiskIsStored(offset: Int, magic: [UInt8]) throws {
    let path = try bench.write("x", bytes(("", magic, offset)))
    expectSuccess(try bench.tool.run("save", path, "--name", "x"))
  }

  @Test func rawStoresAnyBytesAsRAM() throws {
    let ram = bytes(Self.kinds[0])
    let path = try bench.write("x.gz", ram)
    expectSuccess(try bench.tool.run("save", "raw:\(path)", "--name", "file"))
    expectSuccess(try bench.tool.run("save", "raw:-", "--name", "pipe", input: .file(path)))
    for name in ["file", "pipe"] {
      let restored = bench.directory.file(name)
      expectSuccess(try bench.tool.run("restore", name, "-o", restored))
      #expect(try readFile(restored) == ram)
    }
  }

  @Test func aProgramIsNotStoredAsRAM() throws {
    let outcome = try bench.tool.run("save", "/bin/ls")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("is an ELF program"), "\(outcome)")
  }

  @Test func aStreamOfAnotherFormatIsToldHowToBeRead() throws {
    let path = try bench.write("x", Array("QEVM".utf8) + [UInt8](repeating: 0, count: 4092))
    let outcome = try bench.tool.run("save", "-", input: .file(path))
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("write qemu-stream:- as SOURCE"), "\(outcome)")
  }

  /// As RAM it would restore to a core at the guest's address 0.
  @Test func aCoreFromAPipeIsToldHowToBeRead() throws {
    var elf = ELFBuilder()
    elf.load(0, sampleRAM(2))
    let path = try bench.write("x", elf.bytes)
    let outcome = try bench.tool.run("save", "-", input: .file(path))
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("write elf:- as SOURCE"), "\(outcome)")
  }
}
