/// Types of file systems, as `statfs` gives them. Source: <linux/magic.h>.
package enum FileSystemType {
  /// `TMPFS_MAGIC`: files in memory, those of `memfd_create` too.
  package static let memory: Int64 = 0x0102_1994
  /// `HUGETLBFS_MAGIC`: files of huge pages.
  package static let hugePages: Int64 = 0x9584_58f6
}
