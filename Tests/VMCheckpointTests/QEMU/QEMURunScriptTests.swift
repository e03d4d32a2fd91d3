import Foundation
import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointProbes
import VMCheckpointTestSupport

/// The script of a restored directory must hand QEMU the recorded words byte for byte, whatever a
/// stranger has put into them, and run nothing else.
@Suite struct QEMURunScriptTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// What means something to a shell, what Unicode joins to the character before it, and more.
  private static let hostileScalars: [Unicode.Scalar] = [
    "'", "'", "\"", "\\", "$", "`", "!", "\n", "\r", "\t", " ", ",", ",", "=", "-", "/", ";",
    "&", "|", "(", ")", "{", "}", "*", "?", "~", "#", "\u{1}", "\u{7f}", "\u{85}", "\u{301}",
    "\u{301}",
    "\u{200d}", "\u{fe0f}", "\u{1f1e9}", "\u{ad}", "\u{2028}", "a", "é", "中", "\u{1f600}",
  ]

  private static func hostileText(_ generator: inout TestGenerator, minimum: Int = 0) -> String {
    var text = String.UnicodeScalarView()
    for _ in 0..<generator.int(minimum...12) {
      text.append(hostileScalars[generator.int(0...(hostileScalars.count - 1))])
    }
    return String(text)
  }

  /// Runs the script in a place of its own; returns what QEMU's stand-in was given. Nothing but the
  /// stand-in's own file may appear in the working directory.
  private func argumentsGiven(by script: String, _ extra: [String] = []) throws -> [String] {
    let place = try directory.subdirectory(UUID().uuidString)
    let workingDirectory = "\(place)/work"
    mkdir(workingDirectory, 0o700)
    try writeFile("\(place)/device.state", "")
    try writeFile("\(place)/run.sh", script)
    let outcome = try run(
      ["/usr/bin/env", "-C", workingDirectory, "/bin/bash", "\(place)/run.sh"] + extra,
      environment: ["OUT": "\(place)/out", "LC_ALL": "C.UTF-8"],
      timeoutSeconds: 20
    )
    #expect(outcome.succeeded, "\(outcome)\n\(script)")
    #expect(directoryEntries(workingDirectory).isEmpty, "a stranger's command ran:\n\(script)")
    // Each argument ends in a NUL.
    return try readFile("\(place)/out").split(separator: 0, omittingEmptySubsequences: false)
      .dropLast().map { String(decoding: $0, as: UTF8.self) }
  }

  /// Prints its arguments, each with a NUL behind it.
  private func fakeQEMU() throws -> String {
    let path = directory.file("fake-\(UUID().uuidString)")
    try writeFile(path, "#!/bin/bash\nprintf '%s\\0' \"$@\" > \"$OUT\"\n")
    chmod(path, 0o700)
    return path
  }

  private func expectSame(_ actual: [String], _ expected: [String], _ script: String) {
    // `==` of strings takes what Unicode calls equivalent for equal.
    #expect(actual.map { Array($0.utf8) } == expected.map { Array($0.utf8) }, "\(script)")
  }

  @Test func aQuotationMarkWithAnAccentEndsNoWord() throws {
    let name = "'\u{301}; touch pwned; echo '\u{301}"
    let script = try QEMURunScriptProbe.text(commandLine: [fakeQEMU(), "-name", name])
    let given = try argumentsGiven(by: script)
    expectSame(Array(given.prefix(2)), ["-name", name], script)
  }

  @Test func randomWordsReachQEMUByteForByte() throws {
    var generator = TestGenerator(seed: 21)
    let fake = try fakeQEMU()
    for _ in 0..<soakRounds(40) {
      let words = (0..<6).map { _ in "x" + Self.hostileText(&generator) }
      let arguments = words.flatMap { ["-name", $0] }
      let machine = "q35" + Self.hostileText(&generator)
      let block = "pc.ram" + Self.hostileText(&generator).replacing("/", with: "")
      let script = try QEMURunScriptProbe.text(
        machine: machine,
        ramBlock: block,
        commandLine: [fake] + arguments
      )
      let given = try argumentsGiven(by: script)
      expectSame(Array(given.prefix(arguments.count)), arguments, script)
      let rest = given.dropFirst(arguments.count)
      guard rest.count == 6 else {
        Issue.record("\(rest.count) more arguments: \(script)")
        continue
      }
      let id = String(decoding: block.utf8.split(separator: 0x2f).last!, as: UTF8.self)
      func escaped(_ text: String) -> String {
        String(decoding: text.utf8.flatMap { $0 == 0x2c ? [0x2c, 0x2c] : [$0] }, as: UTF8.self)
      }
      let object = rest[rest.startIndex + 1]
      let prefix = "memory-backend-file,id=\(escaped(id)),size=4096,share=off,mem-path="
      #expect(object.utf8.starts(with: prefix.utf8), "\(script)")
      expectSame(
        [rest[rest.startIndex], rest[rest.startIndex + 2], rest[rest.startIndex + 3]],
        ["-object", "-machine", "type=\(escaped(machine)),memory-backend=\(escaped(id))"],
        script
      )
    }
  }

  @Test func aRecordedDirectoryIsNoCommand() throws {
    var generator = TestGenerator(seed: 22)
    let fake = directory.file("pwd")
    try writeFile(fake, "#!/bin/bash\nprintf '%s\\0' \"$PWD\" > \"$OUT\"\n")
    chmod(fake, 0o700)
    for _ in 0..<20 {
      let name = "d" + Self.hostileText(&generator).replacing("/", with: "")
      // No slash may be left in it, not even one with an accent.
      guard !name.utf8.contains(0x2f) else { continue }
      let path = try directory.subdirectory(name)
      let script = try QEMURunScriptProbe.text(commandLine: [fake], workingDirectory: path)
      let place = try directory.subdirectory(UUID().uuidString)
      try writeFile("\(place)/device.state", "")
      try writeFile("\(place)/run.sh", script)
      let outcome = try run(["/bin/bash", "\(place)/run.sh"], environment: ["OUT": "\(place)/out"])
      #expect(outcome.succeeded, "\(outcome)\n\(script)")
      #expect(try readFile("\(place)/out").dropLast().elementsEqual(path.utf8), "\(script)")
    }
  }

  /// An option is known by its first byte.
  @Test func whatBelongsToTheOldVMIsLeftOut() throws {
    let fake = try fakeQEMU()
    let script = try QEMURunScriptProbe.text(
      ramBlock: "a,b",
      commandLine: [
        fake, "-S", "--incoming", "defer", "-object", "memory-backend-ram,id=a,,b,size=4096",
        "-object", "memory-backend-ram,id=a,b=1", "-name", "\u{301}-S",
      ]
    )
    let given = try argumentsGiven(by: script)
    expectSame(
      Array(given.prefix(4)),
      ["-object", "memory-backend-ram,id=a,b=1", "-name", "\u{301}-S"],
      script
    )
  }

  @Test func aNULIsRefusedByName() throws {
    func message(_ body: () throws -> String) -> String? {
      do {
        _ = try body()
        return nil
      } catch { return (error as? VMCheckpointError)?.message }
    }
    #expect(
      message { try QEMURunScriptProbe.text(commandLine: ["qemu", "-name", "a\0b"]) }
        == "argument 2 of QEMU's command line has a NUL, which no script can hold"
    )
    #expect(
      message { try QEMURunScriptProbe.text(ramBlock: "a\0", commandLine: nil) }
        == "RAM block \"a\\u{0}\" has a NUL, which no script can hold"
    )
  }
}
