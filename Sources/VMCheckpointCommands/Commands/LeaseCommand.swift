import ArgumentParser
import VMCheckpoint

/// `vmckpt lease`.
struct LeaseCommand: VerbCommand {
  /// What to do with leases.
  enum Action: String, CaseIterable, ExpressibleByArgument {
    case list, drop
  }

  static let configuration = CommandConfiguration(
    commandName: "lease",
    abstract: "List who serves snapshots, or drop a lease whose server is gone.",
    usage: "vmckpt lease list [<options>]\nvmckpt lease drop <id> [<options>]",
    discussion: """
      A server of pages has a lease in the store, and the snapshot is not deleted before that is \
      gone. When the server's process is gone the lease stays, since a VM may wait for its pages: \
      until the server is started again, the lease is dropped, or for seven days.

      A lease whose server runs is not dropped: end the server, which drops it.

      EXAMPLES:
        vmckpt lease list
        vmckpt lease drop 3
      """
  )

  @Argument(help: "What to do.")
  var action: Action

  @Argument(
    help: ArgumentHelp("The lease to drop, by its number.", valueName: "id"),
    transform: Self.parse
  )
  var id: Int64?

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { action == .drop ? "the lease is dropped" : nil }

  private static func parse(_ text: String) throws(ArgumentError) -> Int64 {
    let number = try DecimalNumber.parse(text)
    guard (1...UInt64(Int64.max)).contains(number) else {
      throw ArgumentError("expected a number from 1 on")
    }
    return Int64(number)
  }

  func validate() throws {
    if action == .drop, id == nil { throw ValidationError("Which lease? Give its number.") }
    if action == .list, id != nil { throw ValidationError("'list' takes no number.") }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> LeaseCommandOutput {
    guard let id else {
      return LeaseCommandOutput(dropped: nil, leases: try common.openStore(in: session).leases())
    }
    let store = try common.openStore(in: session, for: .writing)
    return LeaseCommandOutput(dropped: try store.dropLease(id), leases: try store.leases())
  }
}
