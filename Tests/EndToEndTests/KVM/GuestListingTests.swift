#if arch(x86_64)
  import Testing
  import VMCheckpointTestSupport

  /// The example guest's machine code against the assembly language beside it. Needs no KVM.
  struct GuestListingTests {
    @Test func theBytesOfTheListingAreWhatItsTextAssemblesTo() throws {
      let directory = try TemporaryDirectory()
      let listing = try output(of: [OverlayGuest.path(), "listing"])
      let lines = String(decoding: listing, as: UTF8.self).split(separator: "\n")
      let bytes = lines.flatMap { line in
        line.prefix(30).split(separator: " ").map { UInt8($0, radix: 16) }
      }
      let text = lines.map { $0.dropFirst(30) + "\n" }.joined()

      let (source, object) = (directory.file("guest.s"), directory.file("guest.o"))
      let binary = directory.file("guest.bin")
      try writeFile(source, ".intel_syntax noprefix\n.code64\n" + text)
      _ = try output(of: ["/usr/bin/as", "--64", "-o", object, source])
      _ = try output(of: ["/usr/bin/objcopy", "-O", "binary", "-j", ".text", object, binary])
      #expect(bytes.count > 300)
      #expect(try bytes == readFile(binary))
    }

    private func output(of command: [String]) throws -> [UInt8] {
      let outcome = try ChildProcess(command).wait()
      guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
      return outcome.standardOutput
    }
  }
#endif
