public import ArgumentParser

/// The `vmckpt` command.
public struct VMCheckpointTool: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "vmckpt",
    abstract: "Keep checkpoints of virtual machines in one SQLite file."
  )

  public init() {}
}
