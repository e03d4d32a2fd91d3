/// A recorded command line of QEMU's, as options with their values.
///
/// Only QEMU knows its options: a word that does not begin with a hyphen is taken for the value of the option
/// before it.
package struct QEMUCommandLine: Hashable {
  /// An option with its value, or a word that belongs to none.
  package struct Item: Hashable {
    /// The name without hyphens; `nil`: the word is not an option.
    var option: String?
    /// The option's value, or the word.
    var value: String?
    /// As they were given.
    var words: [String]

    /// The same option with another value.
    func replacing(value: String) -> Item {
      Item(option: option, value: value, words: [words[0], value])
    }
  }

  /// QEMU, as it was called.
  package var program: String
  package var items: [Item]

  /// The program and all arguments.
  package var words: [String] { [program] + items.flatMap(\.words) }

  /// Options with a value that do not belong to a restored VM.
  private static let droppedWithValue: Set<String> = ["incoming", "loadvm", "mem-path"]
  private static let dropped: Set<String> = ["S", "mem-prealloc"]

  /// - Parameter words: Not empty.
  package init(_ words: [String]) {
    program = words[0]
    items = []
    var index = 1
    while index < words.count {
      let word = words[index]
      let following = index + 1 < words.count ? words[index + 1] : nil
      index += 1
      guard let option = Self.option(word) else {
        items.append(Item(option: nil, value: word, words: [word]))
        continue
      }
      // A value of an option is not an option, whatever it looks like.
      let takesValue =
        Self.droppedWithValue.contains(option)
        || !Self.dropped.contains(option) && following?.utf8.first != Self.hyphen
      guard takesValue, let following else {
        items.append(Item(option: option, value: nil, words: [word]))
        continue
      }
      items.append(Item(option: option, value: following, words: [word, following]))
      index += 1
    }
  }

  /// Takes out what does not belong to a restored VM: how it came in, and what its RAM was.
  mutating func keepRestored(ramBlocks: [QEMUMachineRecord.RAMBlock]) {
    items.removeAll { item in
      guard let option = item.option else { return false }
      return Self.dropped.contains(option) || Self.droppedWithValue.contains(option)
        || option == "object" && Self.names(ramBlocks, item, by: "id") || Self.isOfResume(item)
    }
  }

  /// Whether NUMA nodes name the backends of RAM, so that the machine must not.
  func nodesName(ramBlocks: [QEMUMachineRecord.RAMBlock]) -> Bool {
    items.contains { $0.option == "numa" && Self.names(ramBlocks, $0, by: "memdev") }
  }

  /// Whether `vmckpt resume` has given the option: the guest was resumed, and then saved again. Its monitor's folder
  /// is gone.
  private static func isOfResume(_ item: Item) -> Bool {
    switch item.option {
    case "qmp":
      guard let value = item.value, value.hasPrefix("unix:"),
        let path = value.dropFirst("unix:".count).split(separator: ",").first
      else { return false }
      return PrivateDirectory.isFile(String(path), named: QEMUResumeCommandLine.monitorName)
    case "global": return item.value == QEMUResumeCommandLine.postcopyProperty
    default: return false
    }
  }

  private static let hyphen = UInt8(ascii: "-")

  /// The name of the option that `word` is.
  private static func option(_ word: String) -> String? {
    let bytes = word.utf8
    guard bytes.first == hyphen, bytes.count > 1 else { return nil }
    return String(decoding: bytes.drop { $0 == hyphen }, as: UTF8.self)
  }

  /// Whether a member of an option's value is the backend of one of the blocks.
  private static func names(
    _ blocks: [QEMUMachineRecord.RAMBlock],
    _ item: Item,
    by member: String
  ) -> Bool {
    guard let id = item.value.flatMap({ QEMUOptionText.members($0)[member] }) else { return false }
    // Swift's `==` takes different bytes for equal where Unicode calls them equivalent.
    return blocks.contains { $0.backendID.utf8.elementsEqual(id.utf8) }
  }
}
