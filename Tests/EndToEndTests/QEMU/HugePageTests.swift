import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Machines whose RAM is made of huge pages. A postcopy migration would have to bring 2 MiB for each page that the guest
/// touches, and QEMU takes none from a source with other pages than its own.
@Suite(
  .serialized,
  .guest,
  .enabled(
    if: HugePages.areAvailable,
    "the machine has no 48 free huge pages of 2 MiB, and the tests may not allow them"
  )
)
struct HugePageTests {
  private let bench: Workbench
  private let ram: [UInt8]

  private static let byteCount = 32 << 20
  /// Where devices are between pages of RAM, or ROMs: what QEMU shows there is not RAM.
  private static let hole = 0xa0..<0x100

  init() throws {
    bench = try Workbench()
    var ram = [UInt8](repeating: 0, count: Self.byteCount)
    // Whole huge pages of zeros are between, and pages of zeros in huge ones that are not.
    for (first, count) in [(1, 70), (300, 150), (1500, 20), (8190, 2)] {
      ram.replaceSubrange(
        (first * 4096)..<((first + count) * 4096),
        with: sampleRAM(count, seed: UInt64(first))
      )
    }
    self.ram = ram
  }

  /// What RAM is to QEMU.
  enum Backend: String, CaseIterable, Sendable {
    case memfd, json, privateFile, sharedFile, legacy

    func arguments(folder: String) -> [String] {
      let object: String
      switch self {
      case .memfd: object = "memory-backend-memfd,id=m,size=32M,hugetlb=on,share=on"
      case .json:
        object =
          #"{"qom-type":"memory-backend-memfd","id":"m","size":33554432,"hugetlb":true,"hugetlbsize":2097152}"#
      case .privateFile: object = "memory-backend-file,id=m,size=32M,mem-path=\(folder)"
      case .sharedFile: object = "memory-backend-file,id=m,size=32M,mem-path=\(folder),share=on"
      case .legacy: return ["-m", "32M", "-mem-path", folder, "-mem-prealloc"]
      }
      return ["-m", "32M", "-object", object, "-machine", "memory-backend=m"]
    }
  }

  private func machine(
    _ name: String,
    _ backend: Backend,
    _ qemu: QEMURelease,
    _ folder: HugePages.Folder,
    _ arguments: [String] = []
  ) throws -> IdleMachine {
    try IdleMachine(
      name,
      in: bench.directory,
      qemu: qemu,
      arguments: backend.arguments(folder: folder.path) + arguments
    )
  }

  private func save(
    _ backend: Backend,
    _ qemu: QEMURelease,
    _ folder: HugePages.Folder
  ) throws {
    let machine = try machine("saved", backend, qemu, folder)
    try machine.write(ram, at: 0)
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "a")
    try machine.kill()
  }

  /// The pages that differ, where QEMU shows RAM.
  private func differences(_ monitor: QMPConnection) throws -> [Int] {
    let path = bench.directory.file("seen-\(UUID().uuidString)")
    defer { unlink(path) }
    try monitor.run("pmemsave", ["val": 0, "size": Self.byteCount, "filename": path])
    let seen = try readFile(path)
    return (0..<(Self.byteCount / 4096)).filter { page in
      !Self.hole.contains(page)
        && seen.withUnsafeBytes { seen in
          ram.withUnsafeBytes {
            memcmp(seen.baseAddress! + page * 4096, $0.baseAddress! + page * 4096, 4096)
          }
        } != 0
    }
  }

  @Test(
    "a guest that was saved with huge pages is saved whole, and runs again in every way",
    arguments: Backend.allCases.map { ($0, QEMURelease.system) }
      + [(.memfd, .ten), (.privateFile, .ten)]
  )
  func saved(backend: Backend, qemu: QEMURelease) throws {
    let folder = try HugePages.Folder(in: bench.directory)
    try save(backend, qemu, folder)
    let restored = bench.directory.file("restored.ram")
    try bench.tool.succeed("restore", "a", "-o", restored)
    let expected = try bench.write("expected.ram", ram)
    expectSuccess(try run(["/usr/bin/cmp", restored, expected]))

    try bench.tool.succeed(
      "restore",
      "a",
      "--format",
      "qemu",
      "-o",
      bench.directory.file("vm")
    )
    let again = try IdleMachine(
      script: "\(bench.directory.file("vm"))/run.sh",
      workingDirectory: try bench.directory.subdirectory("again")
    )
    #expect(try differences(again.awaitRestored()) == [])
    try again.kill()

    let ways = ["postcopy", "none"] + (MountTool.canMount ? ["mount"] : [])
    for way in ways {
      let place = try bench.directory.subdirectory(way)
      let process = try ChildProcess(
        bench.tool.commandLine(["resume", "a", "--lazy", way, "--record-working-set", "0"]),
        environment: ["VMCKPT_WORKING_DIRECTORY": place, "TMPDIR": bench.directory.path]
      )
      let monitor = try QMPConnection(path: "\(place)/qmp2")
      try waitUntil("the guest is there: \(way)") {
        guard way == "postcopy" else {
          return try !["inmigrate", "restore-vm"].contains(monitor.status())
        }
        let state = try monitor.run("query-migrate") as? [String: Any]
        return state?["status"] as? String == "completed"
      }
      #expect(try differences(monitor) == [], "\(way)")
      process.send(SIGTERM)
      #expect(try process.wait().ending == .exit(0), "\(way)")
    }
  }

  @Test(
    "a QEMU with huge pages is refused before its guest runs, by a sentence that says why",
    arguments: Backend.allCases,
    QEMURelease.allCases
  )
  func refused(backend: Backend, qemu: QEMURelease) throws {
    let saved = try IdleMachine("saved", in: bench.directory, qemu: qemu, arguments: ["-m", "32M"])
    try bench.tool.succeed("save", "qemu:\(saved.monitorPath)", "--name", "a")
    try saved.kill()
    let folder = try HugePages.Folder(in: bench.directory)
    let postcopy = ["-global", "migration.x-postcopy-ram=on"]
    let socket = bench.directory.file("incoming")
    let machine = try machine(
      "target",
      backend,
      qemu,
      folder,
      postcopy + ["-incoming", "unix:\(socket)"]
    )
    let outcome = try bench.tool.run("serve", "a", "--qemu", "--connect", socket)
    expectFailure(
      outcome,
      64,
      "QEMU's RAM is made of huge pages, which a postcopy migration from a snapshot cannot fill; give the "
        + "machine memory-backend-ram, or memory-backend-memfd without hugetlb, of which the kernel may make "
        + "huge pages by itself"
    )
    #expect(try bench.tool.json("lease", "list")["leases"] as? [Any] as? [String] == [])
    try machine.kill()
  }
}
