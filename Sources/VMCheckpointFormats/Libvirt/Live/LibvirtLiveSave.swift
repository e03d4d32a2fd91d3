import VMCheckpoint

/// Saves a domain that libvirt runs, by what every libvirt offers: an external snapshot of memory and of no disk.
///
///     virsh snapshot-create-as --no-metadata --memspec=file=FILE,snapshot=external
///       --diskspec=vda,snapshot=no … [--live]
///
/// libvirt writes a save image into a file, lets the domain go on, and keeps no record of the snapshot. The
/// ways not taken, with libvirt 9.0 and 11.3:
///
/// - `virsh save` and `managedsave` end the domain.
/// - `virsh dump --memory-only --live` has RAM and registers, and no device: nothing goes on from it.
/// - `virsh qemu-monitor-command` taints the domain, and works behind libvirt's back.
/// - A named pipe as the file works, but libvirt opens it a second time at the end. If the reader is gone by
///   then, libvirt waits for ever, with the domain stopped. A file costs space and time, and never that.
///
/// The domain goes on whatever happens here, because the work is libvirtd's own job: it lets the domain go on
/// when the job ends, fails or is aborted, also after its client was killed. This process adds two things.
/// It aborts the job when it is interrupted. And it looks afterwards whether the domain goes on.
///
/// In KVM the guest runs while its memory is written (`--live`), and is stopped for the rest. If it writes
/// faster than that gets done, the job is aborted and done again with the guest stopped. Suspending it would
/// be quicker, but a process that is killed between the job's end and its own next step would leave it so.
/// Without KVM the guest is stopped for the whole job (``QEMUVirtualMachine/tracksWrites``).
struct LibvirtLiveSave: CaptureSource {
  let source: LibvirtLiveSource

  var path: String? { nil }

  var names: CaptureNames {
    CaptureNames(
      snapshot: source.domain,
      vm: source.domain,
      description: "libvirt:\(source.domain)"
    )
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let virsh = Virsh(
      connection: source.connection,
      cancellation: context.control.cancellation
    )
    let uri = try virsh.run("uri").prefix { !$0.isNewline }
    try LibvirtLiveSource.requireLocal(String(uri))
    let uuid = try LibvirtDomain(source.domain, virsh).uuid
    // Nothing may keep the domain waiting that can be done before.
    try context.takeTurn()
    let domain = try LibvirtDomain(uuid, virsh)
    // libvirtd has a working directory of its own, and TMPDIR may be relative.
    let spoolDirectory = try ResolvedPath.of(context.spoolDirectory())
    LibvirtMemoryFile.removeLeftOver(in: spoolDirectory)
    let (memory, pausedSeconds) = try LibvirtMemoryJob(
      virsh: virsh,
      domain: domain,
      name: source.domain,
      control: context.control
    ).run(spoolDirectory: spoolDirectory)
    let (capture, description) = try receive(memory, spoolDirectory, context.control)
    // RAM is read from the capture's spool.
    defer { withExtendedLifetime(capture) {} }
    var guest = try capture.guest(context)
    guest.deviceStates.append(description)
    context.note(
      pausedSeconds.map {
        LivePause(seconds: $0, method: domain.isEmulated ? .stopped : .precopy)
      }
    )
    return try use(guest)
  }

  /// Reads what libvirt has written. Its space is given back with the capture, which reads RAM in place, or at
  /// once where libvirt has compressed it.
  private func receive(
    _ memory: LibvirtMemoryFile,
    _ spoolDirectory: String,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> (capture: QEMUStreamCapture, description: DeviceState) {
    let title = "memory of domain \(quotedName(source.domain))"
    defer { memory.close() }
    return try LibvirtSaveSource.receive(
      StreamReader(
        descriptor: memory.descriptor,
        name: title,
        cancellation: control.cancellation
      ),
      name: title,
      spoolDirectory: spoolDirectory,
      control: control
    )
  }
}
