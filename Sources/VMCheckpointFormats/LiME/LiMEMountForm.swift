import VMCheckpoint

/// Shows a snapshot in a mount as the capture that `restore --format lime` writes.
struct LiMEMountForm: MountForm {
  func files(of guest: any RestorableGuest, showing overlays: [Overlay]) -> [MountFile] {
    [MountFile("memory.lime", .ram(MountedRAM(LiMEForm.form(of: guest.layout))))]
  }
}
