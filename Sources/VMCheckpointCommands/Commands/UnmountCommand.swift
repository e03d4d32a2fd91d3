import ArgumentParser
import VMCheckpoint

/// `vmckpt unmount`.
struct UnmountCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "unmount",
    abstract: "Take a mount of a store away.",
    usage: "vmckpt unmount <directory> [<options>]",
    discussion: """
      A mount that a program uses is left alone. With --lazy it goes at once, and who has files \
      open, such as a VM that runs from them, keeps them until it ends.

      EXAMPLES:
        vmckpt unmount /mnt/vms
        vmckpt unmount /mnt/vms --lazy
      """
  )

  @Argument(
    help: ArgumentHelp("What 'vmckpt mount' was given.", valueName: "directory"),
    completion: .directory
  )
  var directory: String

  @Flag(name: .long, help: "Let programs that use the mount go on with what they have open.")
  var lazy = false

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the mount is gone" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> UnmountOutput {
    UnmountOutput(directory: try StoreMount.unmount(directory, isLazy: lazy), lazy: lazy)
  }
}
