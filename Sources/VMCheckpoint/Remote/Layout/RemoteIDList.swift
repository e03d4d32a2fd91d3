/// A list of IDs: the payload of a ``SealedObject``, a count of four bytes and the IDs.
///
/// Packs that a collection is about to delete are listed so, and manifests that one has found valid.
package enum RemoteIDList {
  /// The object.
  package static func encode(_ kind: SealedObject.Kind, _ ids: [RemoteID]) -> [UInt8] {
    var writer = ByteWriter(capacity: 4 + ids.count * RemoteID.byteCount)
    writer.little32(UInt32(ids.count))
    for id in ids { id.append(to: &writer) }
    return SealedObject.seal(kind, writer.bytes)
  }

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package static func decode(
    _ object: ArraySlice<UInt8>,
    _ kind: SealedObject.Kind,
    title: String
  ) throws(VMCheckpointError) -> [RemoteID] {
    var reader = ByteReader(try SealedObject.open(object, kind, title: title), title: title)
    let count = Int(try reader.little32())
    guard count * RemoteID.byteCount == reader.remainingByteCount else { throw reader.damage }
    var ids: [RemoteID] = []
    ids.reserveCapacity(count)
    for _ in 0..<count { ids.append(try RemoteID(&reader)) }
    return ids
  }
}
