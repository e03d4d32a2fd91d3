package import VMCheckpoint

/// `gpa=0x0,size=3G[,offset=0][,name=low]`: a memory region as the user gives it.
package struct RegionArgument: Hashable, Sendable {
  package var gpa: UInt64
  package var byteCount: UInt64

  /// `nil`: behind the region that was given before.
  package var fileOffset: UInt64?

  /// `nil`: `ram`, with a number where there are several.
  package var name: String?

  /// Parses `text`.
  package static func parse(_ text: String) throws(ArgumentError) -> RegionArgument {
    var values: [String: Substring] = [:]
    for field in text.split(separator: ",", omittingEmptySubsequences: false) {
      let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let key = String(parts[0])
      guard parts.count == 2, ["gpa", "size", "offset", "name"].contains(key) else {
        throw ArgumentError(
          "unknown field '\(field)'; expected gpa=N,size=N[,offset=N][,name=NAME]"
        )
      }
      guard values.updateValue(parts[1], forKey: key) == nil else {
        throw ArgumentError("'\(key)' is given twice")
      }
    }
    func number(_ key: String) throws(ArgumentError) -> UInt64? {
      guard let value = values[key] else { return nil }
      do {
        return try ByteSize.parse(value)
      } catch {
        throw ArgumentError("\(key)=\(value): \(error.description)")
      }
    }
    guard let gpa = try number("gpa") else { throw ArgumentError("'gpa' is missing") }
    guard let size = try number("size") else { throw ArgumentError("'size' is missing") }
    return RegionArgument(
      gpa: gpa,
      byteCount: size,
      fileOffset: try number("offset"),
      name: values["name"].map(String.init)
    )
  }

  /// The layout that `regions` describe, in the order of the command line.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`: here the regions come from
  ///   the command line, and not from a file.
  package static func layout(_ regions: [RegionArgument]) throws(VMCheckpointError) -> RAMLayout {
    var memoryRegions: [MemoryRegion] = []
    var end: UInt64 = 0
    for (index, region) in regions.enumerated() {
      let offset = region.fileOffset ?? end
      memoryRegions.append(
        MemoryRegion(
          gpa: region.gpa,
          byteCount: region.byteCount,
          fileOffset: offset,
          name: region.name ?? (regions.count == 1 ? "ram" : "ram\(index)")
        )
      )
      // An overflow is an error of this region, which the layout reports.
      end = offset.addingReportingOverflow(region.byteCount).partialValue
    }
    do {
      return try RAMLayout(regions: memoryRegions)
    } catch {
      throw VMCheckpointError(.invalidArgument, "--region: \(error.message)", hint: error.hint)
    }
  }
}
