import ArgumentParser
import VMCheckpoint

/// `vmckpt remote init`.
struct RemoteInitCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Make a remote, and give it a name in the store.",
    usage: "vmckpt remote init <address> [<options>]",
    discussion: """
      The bucket has to be there; the folder of a file:// remote is made. The store is made if \
      there is none.

      A push says that it is there by an object with a lease, and a collection waits for as long \
      as that runs. A longer lease suits slow lines; a shorter one lets collections go on sooner \
      after a push was killed.

      EXAMPLES:
        vmckpt remote init s3://fleet/vms --endpoint https://objects.example.com
        vmckpt remote init file:///mnt/nas/vms --name nas
      """
  )

  @OptionGroup var place: RemotePlaceArguments

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How long a push may be silent before it is taken for dead. (default: 3600)",
      valueName: "seconds"
    )
  )
  var leaseSeconds: Int = 3600

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How much longer a collection waits. (default: 300)",
      valueName: "seconds"
    )
  )
  var marginSeconds: Int = 300

  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the remote is made" }

  func validate() throws {
    guard (1...604_800).contains(leaseSeconds), (0...604_800).contains(marginSeconds) else {
      throw ValidationError("expected at most a week, and a lease of at least a second")
    }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteListOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let location = place.location
      let transport = try location.transport(
        arguments.access,
        makesFolder: true,
        control: control
      )
      let store = try Store.openOrCreate(at: storePath, cancellation: control.cancellation)
      guard try !store.remotes().contains(where: { $0.name == place.name }) else {
        throw VMCheckpointError(
          .cannotCreate,
          "the store has a remote \(quotedName(place.name)) already",
          hint: "choose another --name"
        )
      }
      let probe = try RemoteLocation.probe(transport, control: control)
      if let finding = probe.findings.first(where: { !$0.isRight }) {
        throw VMCheckpointError(
          .unavailable,
          "a remote would lose data at \(quotedName(place.address)): it is not so that \(finding.what)",
          hint: "see all that was tried with: vmckpt remote probe"
        )
      }
      _ = try NewRemote.make(
        transport,
        leaseSeconds: Int64(leaseSeconds),
        marginSeconds: Int64(marginSeconds)
      )
      try store.addRemote(location, name: place.name, transport)
      try store.confirm(location)
      return try store.remotes()
    }
    return RemoteListOutput(result, change: "Made", name: place.name, warnings: warnings)
  }
}

/// `vmckpt remote add`.
struct RemoteAddCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Give a remote that is there a name in the store.",
    usage: "vmckpt remote add <address> [<options>]",
    discussion: """
      The store is made if there is none.

      EXAMPLES:
        vmckpt remote add s3://fleet/vms --endpoint https://objects.example.com
      """
  )

  @OptionGroup var place: RemotePlaceArguments
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the remote has its name" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteListOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let location = place.location
      let transport = try location.transport(arguments.access, control: control)
      let store = try Store.openOrCreate(at: storePath, cancellation: control.cancellation)
      try store.addRemote(location, name: place.name, transport)
      try store.confirm(location)
      return try store.remotes()
    }
    return RemoteListOutput(result, change: "Added", name: place.name, warnings: warnings)
  }
}

/// `vmckpt remote list`.
struct RemoteListCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the remotes that the store has names for.",
    usage: "vmckpt remote list [<options>]"
  )

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteListOutput {
    RemoteListOutput(
      try common.openStore(in: session).remotes(),
      change: nil,
      name: nil,
      warnings: []
    )
  }
}

/// `vmckpt remote forget`.
struct RemoteForgetCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "forget",
    abstract: "Take a remote's name out of the store; the remote stays as it is.",
    usage: "vmckpt remote forget <name> [--force] [<options>]"
  )

  @Argument(help: ArgumentHelp("The remote's name.", valueName: "name"))
  var name: String

  @Flag(
    name: .long,
    help: "Also when snapshots here have pages that are only there, and cannot be read then."
  )
  var force = false

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the remote is forgotten" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteListOutput {
    let store = try common.openStore(in: session, for: .writing)
    try store.forgetRemote(named: name, force: force)
    return RemoteListOutput(try store.remotes(), change: "Forgot", name: name, warnings: [])
  }
}
