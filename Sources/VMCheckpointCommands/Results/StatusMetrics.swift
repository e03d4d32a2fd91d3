import VMCheckpoint

/// A store's status in the text format of OpenMetrics 1.0, which Prometheus reads as well.
enum StatusMetrics {
  private struct Family {
    var name: String
    var unit: String?
    var help: String
    /// Labels, from name to value, and the value.
    var samples: [(labels: [(String, String)], value: String)]
  }

  static func text(_ status: StoreStatus) -> String {
    let store = [("store", status.path)]
    func one(_ name: String, _ unit: String?, _ help: String, _ value: UInt64) -> Family {
      Family(name: name, unit: unit, help: help, samples: [(store, "\(value)")])
    }
    func each(
      _ name: String,
      _ unit: String?,
      _ help: String,
      _ value: (StoreStatus.VM) -> String?
    ) -> Family {
      Family(
        name: name,
        unit: unit,
        help: help,
        samples: status.vms.compactMap { vm in
          value(vm).map { (store + [("vm", vm.name)], $0) }
        }
      )
    }
    var families = [
      each("vmckpt_snapshots", nil, "Complete snapshots of a VM.") { "\($0.snapshotCount)" },
      each(
        "vmckpt_last_snapshot_timestamp_seconds",
        "seconds",
        "When the last snapshot of a VM was complete."
      ) { UTCTime.secondsSince1970($0.lastCompletedAt) },
      each("vmckpt_last_snapshot_age_seconds", "seconds", "How old the last snapshot of a VM is.") {
        "\(HumanReadable.milliseconds($0.lastAgeSeconds))"
      },
      each("vmckpt_snapshots_dated_ahead", nil, "Snapshots that are dated later than now.") {
        "\($0.aheadSnapshotCount)"
      },
      each("vmckpt_last_snapshot_ram_bytes", "bytes", "The guest's RAM in the last snapshot.") {
        "\($0.lastRAMByteCount)"
      },
      each("vmckpt_last_snapshot_added_bytes", "bytes", "What the last snapshot added.") {
        "\($0.lastNewStoredByteCount)"
      },
      each("vmckpt_week_added_bytes", "bytes", "What the snapshots of the last 7 days added.") {
        "\($0.weekNewStoredByteCount)"
      },
      each("vmckpt_added_bytes", "bytes", "What all snapshots of a VM added.") {
        "\($0.newStoredByteCount)"
      },
      each(
        "vmckpt_unverified_snapshots",
        nil,
        "Snapshots that were not verified since they were saved."
      ) { "\($0.unverifiedSnapshotCount)" },
      each(
        "vmckpt_unverified_since_timestamp_seconds",
        "seconds",
        "When the oldest of these was complete."
      ) { $0.unverifiedSince.flatMap(UTCTime.secondsSince1970) },
      one("vmckpt_store_file_bytes", "bytes", "The store's file.", status.fileByteCount),
      one(
        "vmckpt_store_reclaimable_bytes",
        "bytes",
        "Space in the file that nothing uses.",
        status.reclaimableByteCount
      ),
      one(
        "vmckpt_store_reserve_bytes",
        "bytes",
        "Space that is kept for freeing space on a full disk.",
        status.reserveByteCount
      ),
      one(
        "vmckpt_file_system_free_bytes",
        "bytes",
        "What is free on the store's file system.",
        status.fileSystemFreeByteCount
      ),
      one(
        "vmckpt_file_system_bytes",
        "bytes",
        "The size of the store's file system.",
        status.fileSystemByteCount
      ),
      one(
        "vmckpt_unfinished_snapshots",
        nil,
        "Snapshots that were begun and not completed.",
        status.unfinishedSnapshotCount
      ),
      Family(
        name: "vmckpt_leases",
        unit: nil,
        help: "Leases of page servers.",
        samples: [
          (store + [("server", "running")], "\(status.heldLeaseCount)"),
          (store + [("server", "gone")], "\(status.lostLeaseCount)"),
        ]
      ),
      one(
        "vmckpt_verify_problems",
        nil,
        "What the last verifications have found damaged.",
        status.problemCount
      ),
    ]
    if let time = status.verifiedAt.flatMap(UTCTime.secondsSince1970) {
      families.append(
        Family(
          name: "vmckpt_store_verified_timestamp_seconds",
          unit: "seconds",
          help: "Since when all of the store is verified.",
          samples: [(store, time)]
        )
      )
    }
    return families.filter { !$0.samples.isEmpty }.map(text).joined() + "# EOF\n"
  }

  private static func text(_ family: Family) -> String {
    var text = "# TYPE \(family.name) gauge\n"
    if let unit = family.unit { text += "# UNIT \(family.name) \(unit)\n" }
    text += "# HELP \(family.name) \(family.help)\n"
    for sample in family.samples {
      let labels = sample.labels.map { "\($0.0)=\"\(escaped($0.1))\"" }.joined(separator: ",")
      text += "\(family.name){\(labels)} \(sample.value)\n"
    }
    return text
  }

  private static func escaped(_ value: String) -> String {
    var text = ""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\\": text += "\\\\"
      case "\"": text += "\\\""
      case "\n": text += "\\n"
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}
