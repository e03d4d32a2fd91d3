import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt formats`.
struct FormatsCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "formats",
    abstract: "List the formats that are read and written.",
    usage: "vmckpt formats [<options>]",
    discussion: """
      'vmckpt save FORMAT:PATH' reads a format, and 'vmckpt restore --format FORMAT' writes \
      one; 'vmckpt convert' does both. A SOURCE without a format is recognised by its first \
      bytes. No store is used.

      EXAMPLES:
        vmckpt formats
        vmckpt formats --json | jq -r '.formats[] | select(.writes) | .name'
      """
  )

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) -> FormatsOutput {
    FormatsOutput(FormatRegistry.all)
  }
}
