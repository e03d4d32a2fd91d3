import ArgumentParser
import VMCheckpoint

/// The machine that the guest will run on: overlays are rebuilt for it.
struct RetargetOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The TSC's frequency where the guest will run, for the reference TSC page; k, M and G "
        + "are powers of 1000.",
      valueName: "hz"
    ),
    transform: Frequency.parse
  )
  var tscFrequency: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The CPU's vendor where the guest will run, for the hypercall page.",
      valueName: "vendor"
    )
  )
  var cpuVendor: CPUVendor?
}
