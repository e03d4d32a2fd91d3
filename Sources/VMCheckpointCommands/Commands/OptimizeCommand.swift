import ArgumentParser
import VMCheckpoint

/// `vmckpt optimize`.
struct OptimizeCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "optimize",
    abstract: "Compress harder, order pages for restores, and shrink the file.",
    usage: "vmckpt optimize [--threads <n>] [<options>]",
    discussion: """
      Compresses with LZ4-HC what no optimize has compressed before, with the pages of \
      each VM's newest snapshot in the order in which a restore reads them. Pages that no \
      snapshot names are left out. Takes up to a GiB of free space for a while.

      It can be interrupted at any time; what it has done stays done, and the next run \
      goes on. Others may read meanwhile; saves wait for some seconds.

      EXAMPLES:
        vmckpt optimize
        nice vmckpt optimize --threads 1
      """
  )

  @OptionGroup var threadOptions: ThreadOptions
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the optimization is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> OptimizeOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, for: .writing, cancellation: control.cancellation).optimize(
        control: control
      )
    }
    return OptimizeOutput(result, warnings: warnings)
  }
}
