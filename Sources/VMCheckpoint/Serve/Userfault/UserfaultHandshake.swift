/// What a VMM sends with its userfaultfd: where the guest's RAM is in its address space.
///
/// The message is Firecracker's: one JSON array of `{"base_host_virt_addr", "size", "offset", "page_size"}`, not
/// framed, with the descriptor in SCM_RIGHTS. `offset` is that of a flat RAM file. `page_size_kib` is an older
/// name of `page_size`; both are bytes. Other keys are ignored.
package struct UserfaultHandshake: Hashable, Sendable {
  package struct Mapping: Hashable, Sendable {
    /// In the VMM's address space.
    package var address: UInt64
    package var byteCount: UInt64
    /// In a flat RAM file.
    package var fileOffset: UInt64
  }

  /// A longer message is refused: 1024 mappings take less.
  package static let maximumByteCount = 256 << 10
  package static let maximumMappingCount = RAMLayout.maximumRegionCount
  /// Ordinary pages, and huge ones.
  package static let pageByteCounts: Set<UInt64> = [UInt64(Page.byteCount), 2 << 20]

  package var mappings: [Mapping]
  package var pageByteCount: UInt64

  /// Reads a message of a stranger.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  package init(_ message: [UInt8]) throws(VMCheckpointError) {
    let value = try StrictJSONReader.read(
      message,
      maximumValueCount: 16 * Self.maximumMappingCount
    )
    guard case .array(let elements) = value else {
      throw .invalidData("expected an array of mappings, found \(value.typeDescription)")
    }
    guard (1...Self.maximumMappingCount).contains(elements.count) else {
      throw .invalidData("\(elements.count) mappings: expected 1 to \(Self.maximumMappingCount)")
    }
    var pageByteCounts = Set<UInt64>()
    mappings = []
    for (index, element) in elements.enumerated() {
      let object = try StrictJSONObject(element, at: JSONPath(components: [.index(index)]))
      let mapping = Mapping(
        address: try object.uint64("base_host_virt_addr"),
        byteCount: try object.uint64("size"),
        fileOffset: try object.uint64("offset")
      )
      // Each is left out by some versions.
      let key = ["page_size", "page_size_kib"].first { object.contains($0) }
      var pageByteCount = UInt64(Page.byteCount)
      if let key { pageByteCount = try object.uint64(key) }
      guard Self.pageByteCounts.contains(pageByteCount) else {
        throw object.invalid(key ?? "page_size", "expected 4096 or 2097152")
      }
      pageByteCounts.insert(pageByteCount)
      for (key, value) in [
        ("base_host_virt_addr", mapping.address), ("size", mapping.byteCount),
        ("offset", mapping.fileOffset),
      ] where value % pageByteCount != 0 {
        throw object.invalid(key, "it is not a multiple of the page size")
      }
      guard mapping.byteCount > 0 else { throw object.invalid("size", "it is 0") }
      guard !mapping.address.addingReportingOverflow(mapping.byteCount).overflow,
        !mapping.fileOffset.addingReportingOverflow(mapping.byteCount).overflow
      else { throw object.invalid("size", "the mapping ends beyond 64-bit addresses") }
      mappings.append(mapping)
    }
    guard pageByteCounts.count == 1 else {
      throw .invalidData("mappings have pages of different sizes")
    }
    pageByteCount = pageByteCounts.first!
  }
}
