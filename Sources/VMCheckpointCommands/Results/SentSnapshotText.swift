/// What is said of a snapshot that went to a remote or to another store.
enum SentSnapshotText {
  /// - Parameters:
  ///   - verb: In the past tense, in small letters.
  ///   - sent: The name of the field about what went, and its value.
  static func text(
    verb: String,
    name: String,
    target: String,
    wasThere: Bool,
    sent: (title: String, value: String),
    reusedPageCount: UInt64,
    durationSeconds: Double
  ) -> String {
    let title = "\(printable(name)) to \(printable(target))"
    guard !wasThere else { return "Not \(verb) \(title): it is there already\n" }
    var fields = FieldList()
    fields.add(sent.title, sent.value)
    fields.add("Was there", "\(HumanReadable.pages(reusedPageCount)) of pages")
    return verb.prefix(1).uppercased() + verb.dropFirst()
      + " \(title) in \(HumanReadable.seconds(durationSeconds))\n" + fields.text
  }
}
