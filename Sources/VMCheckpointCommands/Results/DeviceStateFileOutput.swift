/// What `device-state` prints.
package struct DeviceStateFileOutput: CommandOutput, Hashable {
  var snapshot: String
  var name: String
  var format: String
  var version: UInt32
  var bytes: UInt64
  /// `nil`: standard output.
  @Nullable var path: String?

  package var text: String {
    "Wrote device state \(printable(name)) of \(printable(snapshot)) to "
      + "\(path.map(printable) ?? "standard output"): \(HumanReadable.bytes(bytes))\n"
  }
}
