/// The queries that `vmckpt query` knows, from the `.sql` files in `queries/`.
public enum QuerySQL {
  /// Name and text of each, in the order in which they are listed.
  public static var all: [(name: String, sql: String)] {
    files.map { ($0.name, String(decoding: $0.bytes, as: UTF8.self)) }
  }

  private static let files: [(name: String, bytes: [UInt8])] = [
    ("largest-snapshots", PackageResources.largest_snapshots_sql),
    ("vms", PackageResources.vms_sql),
    ("growth", PackageResources.growth_sql),
    ("lineage", PackageResources.lineage_sql),
    ("region-pages", PackageResources.region_pages_sql),
    ("duplicate-pages", PackageResources.duplicate_pages_sql),
    ("changes", PackageResources.changes_sql),
    ("changed-pages", PackageResources.changed_pages_sql),
    ("shared-pages", PackageResources.shared_pages_sql),
    ("shared-by-vms", PackageResources.shared_by_vms_sql),
    ("overlays", PackageResources.overlays_sql),
    ("page-history", PackageResources.page_history_sql),
    ("page-copies", PackageResources.page_copies_sql),
    ("page-classes", PackageResources.page_classes_sql),
    ("processes", PackageResources.processes_sql),
    ("processes-changed", PackageResources.processes_changed_sql),
    ("largest-processes", PackageResources.largest_processes_sql),
    ("open-files", PackageResources.open_files_sql),
    ("listening", PackageResources.listening_sql),
    ("log", PackageResources.log_sql),
    ("log-since", PackageResources.log_since_sql),
    ("whose-page", PackageResources.whose_page_sql),
    ("changed-owners", PackageResources.changed_owners_sql),
    ("written-files", PackageResources.written_files_sql),
  ]
}
