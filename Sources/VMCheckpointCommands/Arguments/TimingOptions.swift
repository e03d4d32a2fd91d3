import ArgumentParser

/// The option of the commands that show where their time went.
struct TimingOptions: ParsableArguments {
  @Flag(name: .long, help: "Show how long each stage of the work took.")
  var timing = false
}
