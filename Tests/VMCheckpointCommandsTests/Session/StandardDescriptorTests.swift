import Glibc
import Testing
import VMCheckpointCommands

@Suite struct StandardDescriptorTests {
  /// With standard output closed, the store would be opened as descriptor 1 and results would
  /// be printed into it.
  @Test(arguments: [0, 1, 2] as [Int32])
  func aClosedDescriptorIsTakenAndStaysUnusable(descriptor: Int32) async {
    await #expect(processExitsWith: .success) { [descriptor] in
      // Another of the process's threads may open a file just then, and get the number.
      for _ in 0..<20 {
        close(descriptor)
        StandardDescriptors.reserve()
        guard open("/dev/null", O_RDWR) > 2 else { continue }
        var byte: UInt8 = 0
        let result = descriptor == 0 ? read(0, &byte, 1) : write(descriptor, &byte, 1)
        if result == -1, errno == EBADF { return }
      }
      exit(1)
    }
  }

  @Test func openDescriptorsAreLeftAlone() async {
    await #expect(processExitsWith: .success) {
      var before = stat()
      fstat(1, &before)
      StandardDescriptors.reserve()
      var after = stat()
      fstat(1, &after)
      guard before.st_ino == after.st_ino, before.st_dev == after.st_dev else { exit(1) }
    }
  }
}
