/// Why the text of an argument makes no sense. ArgumentParser puts the text and the option's
/// name before it.
package struct ArgumentError: Error, Hashable, CustomStringConvertible {
  package var description: String

  package init(_ description: String) {
    self.description = description
  }
}
