/// Where QEMU would listen.
extension QEMUCommandLine {
  /// Options whose value may be a character device by its short name.
  private static let characterOptions: Set<String> = [
    "qmp", "qmp-pretty", "monitor", "serial", "parallel", "qtest", "virtioconsole", "gdb",
  ]

  /// The paths of Unix sockets at which the program is to listen, as far as its options show them. One may be relative
  /// to its working directory.
  var listeningSockets: [String] {
    items.compactMap { item in
      guard let option = item.option, let value = item.value else { return nil }
      switch option {
      case "chardev":
        let members = QEMUOptionText.members(value)
        let isSocket =
          QEMUOptionText.parts(value).first == "socket" || members["backend"] == "socket"
        guard isSocket else { return nil }
        return Self.path(members["path"], isListening: Self.listens(value, members))
      case "vnc" where value.hasPrefix("unix:"):
        return Self.path(Self.place(value), isListening: true)
      case _ where Self.characterOptions.contains(option) && value.hasPrefix("unix:"):
        let members = QEMUOptionText.members(value)
        return Self.path(Self.place(value), isListening: Self.listens(value, members))
      default: return nil
      }
    }
  }

  /// What is behind `unix:` up to the first comma.
  private static func place(_ value: String) -> String? {
    QEMUOptionText.parts(String(value.dropFirst("unix:".count))).first
  }

  private static func listens(_ value: String, _ members: [String: String]) -> Bool {
    QEMUOptionText.parts(value).contains("server") || ["on", "yes"].contains(members["server"])
  }

  private static func path(_ path: String?, isListening: Bool) -> String? {
    guard isListening, let path, !path.isEmpty else { return nil }
    return path
  }
}
