import VMCheckpoint

/// `NAME=FILE[,format=F][,version=N]`: a device state as the user gives it.
struct DeviceStateArgument: Hashable, Sendable {
  /// Of a device state whose format nobody named.
  static let defaultFormat = "opaque"

  var name: String
  var path: String
  var format = Self.defaultFormat
  var version: UInt32 = 0

  /// Parses `text`. A file's name may hold commas: only fields of known names end it.
  static func parse(_ text: String) throws(ArgumentError) -> DeviceStateArgument {
    let expected = "expected NAME=FILE[,format=F][,version=N]"
    guard let equals = text.firstIndex(of: "=") else { throw ArgumentError(expected) }
    var rest = text[text.index(after: equals)...]
    var argument = DeviceStateArgument(name: String(text[..<equals]), path: "")
    var seen: Set<Substring> = []
    while let comma = rest.lastIndex(of: ",") {
      let field = rest[rest.index(after: comma)...].split(
        separator: "=",
        maxSplits: 1,
        omittingEmptySubsequences: false
      )
      guard field.count == 2, field[0] == "format" || field[0] == "version" else { break }
      guard seen.insert(field[0]).inserted else {
        throw ArgumentError("'\(field[0])' is given twice")
      }
      if field[0] == "format" {
        argument.format = String(field[1])
      } else {
        guard let version = UInt32(field[1]) else {
          throw ArgumentError("version=\(field[1]): expected 0 to \(UInt32.max)")
        }
        argument.version = version
      }
      rest = rest[..<comma]
    }
    argument.path = String(rest)
    guard !argument.path.isEmpty else { throw ArgumentError(expected) }
    do throws(VMCheckpointError) {
      try SnapshotName.check(argument.name, what: "device state name")
      try SnapshotName.check(argument.format, what: "device state format")
    } catch {
      throw ArgumentError(error.description)
    }
    return argument
  }

  /// Reads the file.
  func read() throws(VMCheckpointError) -> DeviceState {
    let file = InputFile(
      name: "device state \(quotedName(path))",
      maximumByteCount: DeviceState.maximumByteCount
    )
    return DeviceState(
      name: name,
      format: format,
      version: version,
      data: try file.read(path: path)
    )
  }
}
