import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// The `--format` of `restore` and `convert`: a format that can be written.
struct FormatArgument: ExpressibleByArgument, CustomStringConvertible {
  static let raw = FormatArgument(form: .raw)

  let form: RestoreFormat

  private init(form: RestoreFormat) {
    self.form = form
  }

  init?(argument: String) {
    guard let form = FormatRegistry.format(named: argument)?.form else { return nil }
    self.form = form
  }

  static var allValueStrings: [String] {
    FormatRegistry.all.filter { $0.form != nil }.map(\.name)
  }

  var description: String { form.name }
  var defaultValueDescription: String { form.name }
}
