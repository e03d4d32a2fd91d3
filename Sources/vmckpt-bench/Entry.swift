import ArgumentParser

/// Measurements that need the library's inside. Not installed; Scripts/bench runs it.
@main
struct Entry: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vmckpt-bench",
    abstract: "Measure parts of vmckpt by themselves.",
    discussion: "CONTRIBUTING.md says what for. Scripts/bench --kernels and --scale run it.",
    subcommands: [KernelsCommand.self, IndexCommand.self, PagesCommand.self]
  )
}
