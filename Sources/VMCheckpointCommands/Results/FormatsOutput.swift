import VMCheckpointFormats

/// What `formats` prints.
struct FormatsOutput: CommandOutput, Hashable {
  struct Format: Codable, Hashable, Sendable {
    var name: String
    var summary: String
    /// Whether `save` and `convert` read it.
    var reads: Bool
    /// Whether `save` and `convert` read it from standard input.
    var readsStandardInput: Bool
    /// Whether `restore` and `convert` write it.
    var writes: Bool

    enum CodingKeys: String, CodingKey {
      case name, summary, reads
      case readsStandardInput = "reads_standard_input"
      case writes
    }
  }

  var formats: [Format]

  init(_ formats: [any MemoryFormat]) {
    self.formats = formats.map { format in
      Format(
        name: format.name,
        summary: format.summary,
        reads: true,
        readsStandardInput: format.readsStreams,
        writes: format.form != nil
      )
    }
  }

  var text: String {
    TextTable(
      [("FORMAT", .left), ("READ", .left), ("WRITTEN", .left), ("WHAT", .left)],
      rows: formats.map { format in
        [
          format.name,
          format.readsStandardInput ? "file, -" : format.reads ? "file" : "",
          format.writes ? "yes" : "",
          format.summary,
        ]
      }
    ).text()
  }
}
