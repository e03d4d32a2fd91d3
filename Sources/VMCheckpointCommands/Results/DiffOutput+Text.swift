import VMCheckpoint

extension DiffOutput {
  package var text: String {
    let names = "\(printable(a)) and \(printable(b))"
    if identical {
      let pages = HumanReadable.count(absent.pageCount, "page")
      return "\(names) hold the same RAM, overlays and device state"
        + (absent.pageCount == 0 ? "" : "; \(pages) absent in both were not compared") + "\n"
    }
    return "What \(printable(b)) has different from \(printable(a))\n" + countTable + ownerTable
      + section("Memory regions", memoryRegions.map(Self.line))
      + section("Guest OS ID", guestOSID.map { [Self.line($0)] } ?? [])
      + section("Overlays", overlays.map(Self.line))
      + section("Device states", deviceStates.map { Self.mark($0.change) + printable($0.name) })
      + rangeSection("Absent", absent)
      + rangeSection("Added", added)
      + rangeSection("Zeroed", zeroed)
      + rangeSection("Changed", changed)
  }

  private var countTable: String {
    let unknown = absent.pageCount == 0 ? [] : [("absent", absent.pageCount)]
    let classes =
      [
        ("added", added.pageCount), ("zeroed", zeroed.pageCount), ("changed", changed.pageCount),
        ("unchanged", unchangedPageCount),
      ] + unknown
    return TextTable(
      [("PAGES", .left), ("COUNT", .right), ("SIZE", .right)],
      rows: classes.map { [$0.0, "\($0.1)", HumanReadable.pages($0.1)] }
    ).text(indentation: "  ")
  }

  private var ownerTable: String {
    guard let owners else { return "" }
    return "\nWhose pages\n"
      + TextTable(
        [
          ("CLASS", .left), ("PID", .right), ("OWNER", .left), ("PAGES", .right),
          ("BYTES", .right), ("FILE", .left),
        ],
        rows: owners.map { owner in
          [
            owner.pageClass ?? "not RAM", owner.pid.map { "\($0)" } ?? "", owner.name ?? "",
            "\(owner.pageCount)", HumanReadable.bytes(owner.differentBytes), owner.file ?? "",
          ]
        }
      ).text(indentation: "  ") + moreOwners
  }

  private var moreOwners: String {
    let missing = (ownerCount ?? 0) - (owners?.count ?? 0)
    guard missing > 0 else { return "" }
    return "  \(missing) more \(missing == 1 ? "owner" : "owners") (--limit all)\n"
  }

  private func section(_ title: String, _ lines: [String]) -> String {
    lines.isEmpty ? "" : "\n\(title)\n" + lines.map { "  \($0)\n" }.joined()
  }

  private func rangeSection(_ title: String, _ pages: Pages) -> String {
    var lines = pages.ranges.map { range in
      "\(range.text)  \(HumanReadable.count(range.pageCount, "page"))"
    }
    let missing = pages.rangeCount - min(pages.rangeCount, UInt64(pages.ranges.count))
    if missing > 0 {
      let more = lines.isEmpty ? "" : "more "
      lines.append("\(missing) \(more)\(missing == 1 ? "range" : "ranges") (--limit all)")
    }
    return section("\(title) PFNs", lines)
  }

  private static func mark(_ change: ChangeKind) -> String {
    switch change {
    case .added: "+ "
    case .removed: "- "
    case .changed: "~ "
    }
  }

  private static func line(_ change: GuestOSID) -> String {
    "\(printable(change.a ?? "unknown")) before, \(printable(change.b ?? "unknown")) now"
  }

  private static func line(_ overlay: Overlay) -> String {
    let vp = overlay.kind.scope == .vp ? " vp \(overlay.vp)" : ""
    return "\(mark(overlay.change))\(HumanReadable.hex(overlay.pfn)) \(overlay.kind.rawValue)\(vp)"
  }

  private static func line(_ region: Region) -> String {
    "\(mark(region.change))GPA \(HumanReadable.hex(region.gpa)), "
      + "\(HumanReadable.bytes(region.bytes)) at offset \(HumanReadable.hex(region.fileOffset)), "
      + printable(region.name)
  }
}
