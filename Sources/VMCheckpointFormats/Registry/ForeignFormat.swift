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

  static let all: [ForeignFormat] =
    compressedFiles + diskImages + archives + programs + dumps + fileSystems + savedMachines

  // Sources: RFC 1952 (gzip), the .xz file format 1.1, lzma-file-format.txt of XZ Utils, RFC 8878 (zstd),
  // the LZ4 frame format 1.6, lrzip's doc/magic.header.txt, and bzip2's "BZh", a level, and the first
  // digits of pi.
  private static let compressedFiles = [
    compressed("a gzip file", [0x1f, 0x8b, 0x08], "gzip"),
    compressed("an xz file", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz"),
    compressed("a zstd file", [0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    compressed("an LZ4 file", [0x04, 0x22, 0x4d, 0x18], "lz4"),
    compressed("an LZ4 file", [0x02, 0x21, 0x4c, 0x18], "lz4"),
    // zstd and LZ4 share skippable frames, which may come first; the last four bits are free.
    ForeignFormat("a zstd or LZ4 file", "decompress it first, and give the RAM file") {
      ($0.byte(at: 0) ?? 0) & 0xf0 == 0x50 && $0.has([0x2a, 0x4d, 0x18], at: 1)
    },
    compressed("a compress file", [0x1f, 0x9d, 0x90], "gzip"),
    compressed("an lrzip file", Array("LRZI".utf8), "lrzip"),
    ForeignFormat(
      "an lzma file",
      "decompress it first, as by: xz --format=lzma -dc FILE | vmckpt save -"
    ) { $0.isLZMAAlone },
    compressed("an lzop file", [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a], "lzop"),
    ForeignFormat(
      "a bzip2 file",
      "decompress it first, as by: bzip2 -dc FILE | vmckpt save -"
    ) { $0.has("BZh") && $0.has([0x31, 0x41, 0x59, 0x26, 0x53, 0x59], at: 4) },
  ]

  // Sources: QEMU docs/interop/{qcow2,parallels}.txt and block/{vmdk,vhdx,vpc,vdi,qed}.c; ECMA-119 8.1
  // (ISO 9660); UEFI 2.10, 5.2 and 5.3 (MBR, GPT).
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
    magic("a Parallels disk image", "WithoutFreeSpace", disk),
    magic("a Parallels disk image", "WithouFreSpacExt", disk),
    magic("a disk with a GPT", "EFI PART", at: 512, disk),
    magic("a disk with a GPT", "EFI PART", at: 4096, disk),
    ForeignFormat("a disk with an MBR", disk) { $0.hasPartitionTable },
    magic("a LUKS volume", [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe], disk),
  ]
  private static let disk = "disks are not captured"

  // Sources: Linux fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h, include/uapi/linux/btrfs_tree.h,
  // fs/erofs/erofs_fs.h, include/linux/f2fs_fs.h, include/linux/swap.h, and fs/squashfs/squashfs_fs.h, which
  // older versions wrote in big-endian order too; Microsoft's FAT specification (BS_FilSysType) and NTFS's
  // OEM name; LVM2 lib/format_text/layout.h.
  private static let fileSystems = [
    ForeignFormat("an ext2, ext3 or ext4 file system", disk) { $0.hasExtSuperblock },
    magic("an XFS file system", "XFSB", disk),
    magic("a Btrfs file system", "_BHRfS_M", at: 0x10040, disk),
    magic("an F2FS file system", [0x10, 0x20, 0xf5, 0xf2], at: 1024, disk),
    magic("an NTFS file system", "NTFS    ", at: 3, disk),
    magic("a FAT file system", "FAT12   ", at: 54, disk),
    magic("a FAT file system", "FAT16   ", at: 54, disk),
    magic("a FAT file system", "FAT32   ", at: 82, disk),
    magic("a swap area", "SWAPSPACE2", at: 4086, disk),
    magic("an LVM physical volume", "LABELONE", at: 512, disk),
    magic("an EROFS image", [0xe2, 0xe1, 0xf5, 0xe0], at: 1024, disk),
    magic("a squashfs image", "hsqs", disk),
    magic("a squashfs image", "sqsh", disk),
  ]

  // Sources: VirtualBox include/VBox/vmm/ssm.h and src/VBox/VMM/VMMR3/SSM.cpp; Xen
  // docs/specs/libxc-migration-stream.pandoc and tools/libs/light/libxl_save_callout.c, xl.h.
  private static let savedMachines = [
    magic("a VirtualBox saved state", "\u{7f}VirtualBox SavedState", virtualBox),
    magic("a Xen saved domain", "Xen saved domain, xl format\n", xen),
    magic("a Xen migration stream", [UInt8](repeating: 0xff, count: 8) + Array("XENF".utf8), xen),
    magic("a Xen migration stream", [UInt8](repeating: 0xff, count: 8) + Array("FNEX".utf8), xen),
  ]
  private static let virtualBox =
    "it cannot be read yet; dump the running VM by: VBoxManage debugvm VM dumpvmcore --filename FILE"
  private static let xen = "it cannot be read yet"

  // Sources: POSIX.1-2017 `pax`; PKWARE's APPNOTE 4.3.7; 7zFormat.txt; RAR 5.0 archive format; Proxmox's
  // vma_spec.txt.
  private static let archives = [
    magic("a tar archive", "ustar", at: 257, unpack),
    ForeignFormat("a tar archive", unpack) { $0.isHeaderOfOldTar },
    magic("a zip archive", [0x50, 0x4b, 0x03, 0x04], unpack),
    // Without members, and in parts.
    magic("a zip archive", [0x50, 0x4b, 0x05, 0x06], unpack),
    magic("a zip archive", [0x50, 0x4b, 0x07, 0x08], unpack),
    magic("a 7z archive", [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], unpack),
    magic("a RAR archive", [0x52, 0x61, 0x72, 0x21, 0x1a, 0x07], unpack),
    magic("a cpio archive", "070701", unpack),
    magic("a cpio archive", "070702", unpack),
    magic("a cpio archive", "070707", unpack),
    magic("a cpio archive", [0xc7, 0x71], unpack),
    magic("an ar archive", "!<arch>\n", unpack),
    magic("a Proxmox backup (VMA)", [0x56, 0x4d, 0x41, 0x00], disk),
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
