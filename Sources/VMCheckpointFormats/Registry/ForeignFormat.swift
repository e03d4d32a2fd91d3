import VMCheckpoint

/// Kinds of files that are known by their first bytes and are not a guest's RAM, or hold it in a form
/// that cannot be read. Stored as flat RAM they would restore to what no guest ever had.
struct ForeignFormat: Sendable {
  /// With its article, as in "is a gzip file".
  var title: String
  /// What a user does with it; `nil`: nothing but `raw:`.
  var advice: String?
  var recognizes: @Sendable (FileHead) -> Bool

  /// Refuses a file or stream of a known kind.
  ///
  /// - Parameter source: Its path; `nil` for standard input.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  static func refuse(_ head: FileHead, source: String?) throws(VMCheckpointError) {
    guard let kind = all.first(where: { $0.recognizes(head) }) else { return }
    let override = "raw:\(source ?? "-") stores its bytes as RAM"
    throw VMCheckpointError(
      .invalidData,
      "\(source.map { "SOURCE \(quotedName($0))" } ?? "standard input") is \(kind.title), and is not "
        + "a guest's RAM",
      hint: kind.advice.map { "\($0); \(override)" } ?? override
    )
  }

  private init(
    _ title: String,
    _ advice: String? = nil,
    recognizes: @escaping @Sendable (FileHead) -> Bool
  ) {
    self.title = title
    self.advice = advice
    self.recognizes = recognizes
  }

  private static func magic(
    _ title: String,
    _ magic: [UInt8],
    at offset: Int = 0,
    _ advice: String? = nil
  ) -> ForeignFormat {
    ForeignFormat(title, advice) { $0.has(magic, at: offset) }
  }

  private static func magic(
    _ title: String,
    _ text: String,
    at offset: Int = 0,
    _ advice: String? = nil
  ) -> ForeignFormat {
    magic(title, Array(text.utf8), at: offset, advice)
  }

  private static func compressed(_ title: String, _ bytes: [UInt8], _ tool: String) -> ForeignFormat
  {
    magic(title, bytes, "decompress it first, as by: \(tool) -dc FILE | vmckpt save -")
  }

  static let all: [ForeignFormat] = compressedFiles + diskImages + archives + programs + dumps

  // Sources: RFC 1952 (gzip), the .xz file format 1.1, RFC 8878 (zstd), the LZ4 frame format 1.6, and
  // bzip2's "BZh", a level, and the first digits of pi.
  private static let compressedFiles = [
    compressed("a gzip file", [0x1f, 0x8b, 0x08], "gzip"),
    compressed("an xz file", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz"),
    compressed("a zstd file", [0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    compressed("an LZ4 file", [0x04, 0x22, 0x4d, 0x18], "lz4"),
    compressed("an LZ4 file", [0x02, 0x21, 0x4c, 0x18], "lz4"),
    compressed("a compress file", [0x1f, 0x9d, 0x90], "gzip"),
    compressed("an lzop file", [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a], "lzop"),
    ForeignFormat(
      "a bzip2 file",
      "decompress it first, as by: bzip2 -dc FILE | vmckpt save -"
    ) { $0.has("BZh") && $0.has([0x31, 0x41, 0x59, 0x26, 0x53, 0x59], at: 4) },
  ]

  // Sources: QEMU docs/interop/qcow2.txt and block/{vmdk,vhdx,vpc,vdi,qed}.c; ECMA-119 8.1 (ISO 9660);
  // Linux fs/squashfs/squashfs_fs.h.
  private static let diskImages = [
    magic("a qcow2 disk image", [0x51, 0x46, 0x49, 0xfb], disk),
    magic("a VMDK disk image", "KDMV", disk),
    magic("a VMDK disk image", "COWD", disk),
    magic("a VMDK disk image's descriptor", "# Disk DescriptorFile", disk),
    magic("a VHDX disk image", "vhdxfile", disk),
    magic("a VHD disk image", "conectix", disk),
    magic("a VDI disk image", [0x7f, 0x10, 0xda, 0xbe], at: 64, disk),
    magic("a QED disk image", [0x51, 0x45, 0x44, 0x00], disk),
    magic("an ISO 9660 image", "CD001", at: 32769, disk),
    magic("a squashfs image", "hsqs", disk),
    magic("a LUKS volume", [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe], disk),
  ]
  private static let disk = "disks are not captured"

  // Sources: POSIX.1-2017 `pax`; PKWARE's APPNOTE 4.3.7; 7zFormat.txt; RAR 5.0 archive format.
  private static let archives = [
    magic("a tar archive", "ustar", at: 257, unpack),
    ForeignFormat("a tar archive", unpack) { $0.isHeaderOfOldTar },
    magic("a zip archive", [0x50, 0x4b, 0x03, 0x04], unpack),
    magic("a 7z archive", [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], unpack),
    magic("a RAR archive", [0x52, 0x61, 0x72, 0x21, 0x1a, 0x07], unpack),
    magic("a cpio archive", "070701", unpack),
    magic("a cpio archive", "070702", unpack),
    magic("a cpio archive", "070707", unpack),
    magic("a cpio archive", [0xc7, 0x71], unpack),
    magic("an ar archive", "!<arch>\n", unpack),
  ]
  private static let unpack = "unpack it first, and give the RAM file"

  // Source: the System V gABI, "ELF Header"; e_type is at offset 16 in the file's byte order.
  private static let programs = [
    elf("an ELF object file", 1),
    elf("an ELF program", 2),
    elf("an ELF program or library", 3),
    magic("an SQLite database", "SQLite format 3\0"),
  ]

  private static let dumps = [
    elf("an ELF core without program headers", 4, "Xen's cores are such, and cannot be read yet"),
    magic("a Windows crash dump", "PAGEDU64"),
    magic("a Windows crash dump", "PAGEDUMP"),
  ]

  private static func elf(_ title: String, _ type: UInt8, _ advice: String? = nil) -> ForeignFormat
  {
    ForeignFormat(title, advice) { head in
      guard head.has([0x7f, 0x45, 0x4c, 0x46]), let order = head.byte(at: 5) else { return false }
      let bytes: [UInt8] = order == 2 ? [0, type] : [type, 0]
      return head.has(bytes, at: 16)
    }
  }
}
