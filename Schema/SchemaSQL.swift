/// The store's DDL, from the `.sql` files beside this one.
public enum SchemaSQL {
  /// Creates every table, index and view of store format version 1.
  public static var version1: String {
    String(decoding: PackageResources.schema_v1_sql, as: UTF8.self)
  }

  /// Creates the table of the feature `absent-ranges`.
  public static var absentRanges: String {
    String(decoding: PackageResources.feature_absent_ranges_sql, as: UTF8.self)
  }

  /// Creates the table of the feature `leases`.
  public static var leases: String {
    String(decoding: PackageResources.feature_leases_sql, as: UTF8.self)
  }

  /// Creates the table of the feature `overlay-origins`.
  public static var overlayOrigins: String {
    String(decoding: PackageResources.feature_overlay_origins_sql, as: UTF8.self)
  }

  /// Creates the tables of the feature `remotes`.
  public static var remotes: String {
    String(decoding: PackageResources.feature_remotes_sql, as: UTF8.self)
  }

  /// Creates the table of the feature `verifications`.
  public static var verifications: String {
    String(decoding: PackageResources.feature_verifications_sql, as: UTF8.self)
  }

  /// Creates the tables of the feature `working-sets`.
  public static var workingSets: String {
    String(decoding: PackageResources.feature_working_sets_sql, as: UTF8.self)
  }
}
