import Testing
import VMCheckpointFormats

/// What of a recorded command line depends on how QEMU was started, of which a save must warn.
@Suite struct QEMUCommandLineStartTests {
  private func line(_ words: String...) -> QEMUCommandLine { QEMUCommandLine(["qemu"] + words) }

  @Test func descriptorsOfWhoStartedQEMUAreFound() {
    #expect(line("-add-fd", "fd=22,set=1").inheritedDescriptor != nil)
    #expect(line("-chardev", "socket,id=m,fd=22,server=on").inheritedDescriptor != nil)
    #expect(line("-netdev", "tap,fds=24:25,id=n,vhost=on").inheritedDescriptor != nil)
    #expect(line("-netdev", #"{"type":"tap","fd":"24","id":"n"}"#).inheritedDescriptor != nil)
    #expect(line("-drive", "file=/dev/fdset/1,if=none").inheritedDescriptor != nil)
  }

  @Test func whatOnlyLooksLikeADescriptorIsNone() {
    #expect(line("-netdev", "tap,id=n,ifname=fd").inheritedDescriptor == nil)
    #expect(line("-chardev", "socket,id=fd,path=/run/fd").inheritedDescriptor == nil)
    #expect(line("-netdev", "user,id=n,fd=name").inheritedDescriptor == nil)
  }

  @Test func relativePathsOfADaemonAreFound() {
    for words in [
      ["-kernel", "vmlinuz"], ["-drive", "if=virtio,file=disk.img"],
      ["-qmp", "unix:qmp,server=on"],
      ["-chardev", "socket,id=m,path=run/m"],
      ["-blockdev", "driver=qcow2,file.filename=disk,node-name=d"],
    ] {
      #expect(
        QEMUCommandLine(["qemu", "-daemonize"] + words).relativePathOfDaemon != nil,
        "\(words)"
      )
      // Without -daemonize the folder is recorded.
      #expect(QEMUCommandLine(["qemu"] + words).relativePathOfDaemon == nil, "\(words)")
    }
  }

  @Test func whatIsNoRelativePathNeedsNoWarning() {
    for words in [
      ["-kernel", "/boot/vmlinuz"], ["-drive", "file=nbd://host/disk"],
      ["-drive", "file=json:{},if=none"],
      ["-qmp", "unix:/run/qmp,server=on"], ["-qmp", "stdio"], ["-serial", "file:/x"],
      ["-m", "16M"],
    ] {
      #expect(
        QEMUCommandLine(["qemu", "-daemonize"] + words).relativePathOfDaemon == nil,
        "\(words)"
      )
    }
  }
}
