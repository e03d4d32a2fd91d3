import CFuzzHost
import Foundation
import VMCheckpoint
import VMCheckpointTestSupport

/// What is fuzzed: code that reads what strangers wrote.
protocol FuzzTarget {
  init(_ setting: FuzzSetting)

  /// Reads the input. Errors are what should come of it; a crash, a leak or a hang is a finding.
  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws

  /// Inputs to begin with.
  var seeds: [[UInt8]] { get }
}

/// What targets share.
struct FuzzSetting {
  let directory: TemporaryDirectory
  let store: [UInt8]
}

private let targets: [(name: String, type: any (FuzzTarget & SendableMetatype).Type)] = [
  ("store", StoreTarget.self), ("arguments", ArgumentTarget.self), ("lz4", LZ4Target.self),
  ("library", LibraryTarget.self), ("qemu", QEMUTarget.self), ("libvirt", LibvirtTarget.self),
  ("propolis", PropolisTarget.self), ("elf", ELFTarget.self), ("ranges", RangeTarget.self),
  ("kdump", KdumpTarget.self), ("vmware", VMwareTarget.self),
  ("cloud-hypervisor", CloudHypervisorTarget.self), ("firecracker", FirecrackerTarget.self),
  ("registers", RegisterTarget.self), ("overlays", OverlayTarget.self),
  ("serve", ServeTarget.self), ("return-path", ReturnPathTarget.self),
  ("mount", MountTarget.self), ("guest", GuestTarget.self), ("remote", RemoteTarget.self),
]

/// The target that libFuzzer's callback, a C function, runs.
private nonisolated(unsafe) var current: (any FuzzTarget)?

/// `vmckpt-fuzz list`, `vmckpt-fuzz seeds TARGET DIRECTORY`, or `vmckpt-fuzz TARGET` followed by
/// libFuzzer's options. Scripts/fuzz runs it.
@main struct Entry {
  static func main() throws {
    let arguments = CommandLine.arguments
    guard arguments.count > 1 else { throw TestSetupError("usage: vmckpt-fuzz TARGET [OPTION]...") }
    if arguments[1] == "list" {
      for target in targets { print(target.name) }
      return
    }
    let writesSeeds = arguments[1] == "seeds" && arguments.count == 4
    let name = arguments[writesSeeds ? 2 : 1]
    guard let type = targets.first(where: { $0.name == name })?.type else {
      throw TestSetupError("there is no target \(name)")
    }
    let directory = try TemporaryDirectory()
    guard fuzz_load_extension() == 0 else { throw TestSetupError("no extension") }
    let target = type.init(
      FuzzSetting(directory: directory, store: try FuzzStore.make(in: directory))
    )
    if writesSeeds {
      for (index, seed) in target.seeds.enumerated() {
        try writeFile("\(arguments[3])/seed-\(index)", seed)
      }
      exit(0)
    }
    current = target
    exit(runDriver())
  }

  /// Runs libFuzzer, which must not see the target's name.
  private static func runDriver() -> CInt {
    var count = CommandLine.argc - 1
    let vector = CommandLine.unsafeArgv
    let all = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: Int(count) + 1)
    all[0] = vector[0]
    for index in 1...Int(count) { all[index] = vector[index + 1] }
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = all
    return LLVMFuzzerRunDriver(&count, &arguments) { data, count in
      try? current!.run(data, count)
      return 0
    }
  }
}
