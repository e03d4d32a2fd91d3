extension ShowOutput {
  package var text: String {
    "\(printable(summary.name))\n" + fields.text
      + section("Memory regions", regionTable)
      + section("Overlays\(overlayOrigin.map { ", from \(printable($0))" } ?? "")", overlayTable)
      + section("Device states", deviceStateTable)
      + section("Disks, not captured", diskTable)
  }

  private var fields: FieldList {
    var fields = FieldList()
    fields.add("UUID", summary.uuid)
    fields.add("VM", summary.vm)
    fields.add("Parent", summary.parent)
    fields.add("Children", children.joined(separator: ", "))
    fields.add("Tags", summary.tagText)
    fields.add("Started", summary.startedAt)
    fields.add("Completed", summary.completedAt)
    fields.add("Source", source)
    fields.add("Producer", producer)
    fields.add("CPU vendor", cpuVendor)
    fields.add("TSC frequency", tscFrequencyHz.map { "\($0) Hz" })
    fields.add("Guest OS ID", overlays["guest_os_id"]?.plainText)
    fields.addRAM(summary.ramBytes, storedPages: summary.storedPages, absentPages: absentPages)
    fields.addNewPages(summary.newPages, storedBytes: summary.newStoredBytes)
    fields.add("Working set", workingSet?.text(for: summary.name))
    fields.add("Digest", summary.digest)
    fields.add("Command line", qemu.map { printable($0.trustText) })
    return fields
  }

  private var regionTable: TextTable {
    TextTable(
      [("GPA", .left), ("SIZE", .right), ("BYTES", .right), ("OFFSET", .left), ("NAME", .left)],
      rows: memoryRegions.map { region in
        [
          HumanReadable.hex(region.gpa), HumanReadable.bytes(region.bytes), "\(region.bytes)",
          HumanReadable.hex(region.fileOffset), region.name,
        ]
      }
    )
  }

  private var overlayTable: TextTable {
    let ownColumns: Set = ["kind", "pfn", "vp"]
    return TextTable(
      [("PFN", .left), ("KIND", .left), ("VP", .right), ("PARAMETERS", .left)],
      rows: (overlays["overlays"]?.elements ?? []).map { record in
        guard case .object(let members) = record else { return ["", "", "", ""] }
        let parameters = members.sorted { $0.key < $1.key }
          .filter { !ownColumns.contains($0.key) }
          .map { "\($0.key)=\(Self.parameterText($0.value))" }
        return [
          members["pfn"]?.plainText ?? "", members["kind"]?.plainText ?? "",
          members["vp"]?.plainText ?? "", parameters.joined(separator: " "),
        ]
      }
    )
  }

  private var deviceStateTable: TextTable {
    TextTable(
      [
        ("NAME", .left), ("FORMAT", .left), ("VERSION", .right), ("SIZE", .right),
        ("STORED", .right), ("SHA-256", .left),
      ],
      rows: deviceStates.map { state in
        [
          state.name, state.format, "\(state.version)", HumanReadable.bytes(state.bytes),
          HumanReadable.bytes(state.storedBytes), state.sha256,
        ]
      }
    )
  }

  private var diskTable: TextTable {
    TextTable(
      [
        ("DEVICE", .left), ("FORMAT", .left), ("SIZE", .right), ("WRITTEN", .left), ("FILE", .left),
      ],
      rows: (qemu?.disks ?? []).flatMap { disk in
        disk.images.enumerated().map { index, image in
          [
            index > 0 ? "" : disk.device.isEmpty ? disk.node : disk.device, image.format,
            image.bytes.map(HumanReadable.bytes) ?? "-", image.modifiedTime ?? "-", image.file,
          ]
        }
      }
    )
  }

  private func section(_ title: String, _ table: TextTable) -> String {
    table.rows.isEmpty ? "" : "\n\(title)\n" + table.text(indentation: "  ")
  }

  /// A page in base64 is no reading matter; the JSON has it.
  private static func parameterText(_ value: JSONValue) -> String {
    let text = value.plainText
    return text.utf8.count > 1024 ? "<page>" : text
  }
}

extension JSONValue {
  /// A value within a line of text.
  var plainText: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .unsigned(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): value
    case .array, .object: String(JSONText.line(self).dropLast())
    }
  }
}
