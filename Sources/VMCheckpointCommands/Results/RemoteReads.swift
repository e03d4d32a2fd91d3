/// What came from remotes while pages were served, for a person.
enum RemoteReads {
  static func text(
    chunkCount: UInt64,
    byteCount: UInt64,
    waitCount: UInt64,
    waitSeconds: Double
  ) -> String {
    let text =
      "\(HumanReadable.count(chunkCount, "chunk")), \(HumanReadable.bytes(byteCount))"
    guard waitCount > 0 else { return text }
    return text + "; \(HumanReadable.count(waitCount, "time")) it gave nothing, for "
      + HumanReadable.seconds(waitSeconds) + " in all"
  }
}
