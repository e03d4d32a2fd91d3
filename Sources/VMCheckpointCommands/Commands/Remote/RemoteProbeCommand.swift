import ArgumentParser
import VMCheckpoint

/// `vmckpt remote probe`.
struct RemoteProbeCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "probe",
    abstract: "Try whether a server does what remotes rely on.",
    usage: "vmckpt remote probe <address> [<options>]",
    discussion: """
      Puts, reads, lists and deletes small objects below the address, and takes them away again. \
      There need not be a remote yet. The exit code is 69 when a remote would lose data there; \
      'vmckpt remote init' refuses such a place.

      EXAMPLES:
        vmckpt remote probe s3://fleet/vms --endpoint https://objects.example.com
      """
  )

  @OptionGroup var place: RemotePlaceArguments
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteProbeOutput {
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let transport = try place.location.transport(
        arguments.access,
        makesFolder: true,
        control: control
      )
      return try RemoteLocation.probe(transport, control: control)
    }
    return RemoteProbeOutput(place.address, result, warnings: warnings)
  }
}
