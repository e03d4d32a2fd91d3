import ArgumentParser
import Foundation
import VMCheckpoint

/// The command `kvm-overlay-guest`.
@main
struct Entry: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kvm-overlay-guest",
    abstract: "Run a small guest that uses overlay pages, and save and restore it.",
    discussion: """
      An example of how a VMM uses the library VMCheckpoint. It needs /dev/kvm, of Linux 5.16 or \
      later.

      STEPS, in the order given:
        use                    the guest uses what it has enabled, and reports
        disable-hypercall      the same, after it has disabled its hypercall page
        disable-reference-tsc  the same, after it has disabled its reference TSC page
        save:NAME              save a snapshot; the guest goes on afterwards

      Each report of the guest is a line of JSON on standard output. Its 'problems' are empty when \
      the guest found everything as it must be.

      EXAMPLES:
        kvm-overlay-guest run --store vms.db --ram a.ram use save:one
        kvm-overlay-guest resume one --store vms.db --ram b.ram use disable-hypercall
        kvm-overlay-guest resume one --store vms.db --lazy pages.sock use
      """,
    subcommands: [Run.self, Resume.self, Listing.self]
  )
}

/// What both ways to run a guest need.
struct GuestOptions: ParsableArguments {
  @Option(help: "The store to save to or restore from.")
  var store: String

  @Option(help: "The file that becomes the guest's RAM. It must not exist.")
  var ram: String?

  @Option(
    help: ArgumentHelp(
      "The TSC frequency that the guest learns, instead of what KVM says.",
      valueName: "hz"
    )
  )
  var tscFrequency: UInt64?

  @Argument(help: "What happens.")
  var steps: [Step]

  func validate() throws {
    if tscFrequency == 0 { throw ValidationError("A TSC ticks: its frequency is not 0.") }
    if case .save = steps.first {
      throw ValidationError("Before its first other step a guest has nothing to save.")
    }
  }

  /// Does all steps and prints what comes of them.
  func perform(on guest: Guest) throws {
    for step in steps {
      switch step {
      case .guest(let command):
        try printJSON(guest.perform(command))
      case .save(let name):
        try printJSON(["saved": guest.save(as: name, toStoreAt: store).name])
      }
    }
  }
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Boot the guest.")

  @OptionGroup var options: GuestOptions

  @Flag(help: "The guest enables both overlays at one page.")
  var stacked = false

  @Option(help: "How its reference TSC page gets its contents: frequency or offset.")
  var clock = ReferenceClock.frequency

  func validate() throws {
    if options.ram == nil { throw ValidationError("Where is its RAM to be? Give --ram.") }
  }

  func run() throws {
    try options.perform(
      on: Guest.boot(
        ramPath: options.ram!,
        isStacked: stacked,
        clock: clock,
        tscFrequencyHz: options.tscFrequency
      )
    )
  }
}

struct Resume: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Go on with a saved guest.")

  @Argument(help: "The snapshot: a name, 'latest', NAME~N or the beginning of a UUID.")
  var reference: String

  @OptionGroup var options: GuestOptions

  @Option(
    help: ArgumentHelp(
      "Instead of --ram: have pages come when they are touched, from the server of 'vmckpt serve REF "
        + "--uffd SOCKET --overlays omit'.",
      valueName: "socket"
    )
  )
  var lazy: String?

  @Flag(help: "Forget to rebuild the overlays, to see what the guest makes of it.")
  var withoutOverlays = false

  func validate() throws {
    if (options.ram == nil) == (lazy == nil) {
      throw ValidationError("Where does its RAM come from? Give --ram or --lazy.")
    }
  }

  func run() throws {
    try options.perform(
      on: Guest.restore(
        reference,
        fromStoreAt: options.store,
        place: lazy.map { .served(socketPath: $0) } ?? .file(path: options.ram!),
        tscFrequencyHz: options.tscFrequency,
        rebuildsOverlays: !withoutOverlays
      )
    )
  }
}

struct Listing: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Print the guest's program.")

  func run() {
    print(GuestProgram.listing)
  }
}

/// One thing that happens to a guest.
enum Step: ExpressibleByArgument {
  case guest(GuestProgram.Command)
  case save(String)

  init?(argument: String) {
    switch argument {
    case "use": self = .guest(.use)
    case "disable-hypercall": self = .guest(.disableHypercall)
    case "disable-reference-tsc": self = .guest(.disableReferenceTSC)
    case let save where save.hasPrefix("save:"): self = .save(String(save.dropFirst(5)))
    default: return nil
    }
  }
}

extension ReferenceClock: ExpressibleByArgument {}

func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = .sortedKeys
  FileHandle.standardOutput.write(try encoder.encode(value) + Data("\n".utf8))
}

func warn(_ message: String) {
  FileHandle.standardError.write(Data("kvm-overlay-guest: \(message)\n".utf8))
}
