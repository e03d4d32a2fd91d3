import CLinux
import Foundation
import Glibc
import SystemPackage
public import VMCheckpoint

/// Runs a stored guest in QEMU, in the foreground.
public enum QEMUResume {
  /// Resumes a guest, and waits until QEMU ends. A server that is killed is replaced. When `control` is cancelled, QEMU is
  /// asked to end.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when the snapshot is not of a QEMU guest, or has no command
  ///   line; `permissionDenied` when its command line is not trusted; `unavailable` when QEMU is missing or refuses;
  ///   as ``RecordedDisks/check(workingDirectory:forOverlays:)`` for its disks.
  public static func run(
    _ request: QEMUResumeRequest,
    storePath: String,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> QEMUResumeResult {
    let start = MonotonicClock.nowSeconds

    // 1. What the snapshot is, and what runs it.
    let store = try Store.open(at: storePath, cancellation: control.cancellation)
    let (plan, restore) = try store.planStream(
      request.reference,
      overlays: request.overlays,
      tscFrequencyHz: request.tscFrequencyHz,
      cpuVendor: request.cpuVendor
    )
    let state = restore.state
    let runs = QEMURunState.runs(state.stream, ramOffset: state.record.ramOffset)
    let (laziness, reason) = try choose(request, state, of: plan.title)
    let scratch = try PrivateDirectory(
      in: request.temporaryDirectory,
      holdsRAM: laziness == .none || request.diskMode == .overlay
    )
    defer { scratch.remove(control) }
    let line = try QEMUResumeCommandLine(state, request: request, overlayFolder: scratch.path)
    request.onStart?(plan.name, laziness, reason)

    let prepared = MonotonicClock.nowSeconds

    // 2. QEMU, until it ends.
    var run = QEMUResumeRun(
      request,
      storePath: storePath,
      uuid: plan.uuid,
      blocks: state.record.ramBlocks,
      scratch,
      control
    )
    switch laziness {
    case .postcopy: try run.startWithPostcopy(line, isStopped: runs == false)
    case .mount: try run.startMounted(line, name: plan.name)
    case .none: try run.startRestored(line, store: store)
    }
    let started = MonotonicClock.nowSeconds
    let status = try run.wait()
    return QEMUResumeResult(
      name: plan.name,
      uuid: plan.uuid,
      laziness: laziness,
      exitCode: status & 0x7f == 0 ? status >> 8 & 0xff : nil,
      signal: status & 0x7f == 0 ? nil : status & 0x7f,
      serverCount: run.serverCount,
      serverReport: run.report,
      stages: [
        QEMUResumeStage(name: "prepare", seconds: prepared - start),
        QEMUResumeStage(name: laziness.preparation, seconds: started - prepared),
      ],
      durationSeconds: MonotonicClock.nowSeconds - start
    )
  }

  /// What the user asks for, or else what this machine and the snapshot allow, and why.
  private static func choose(
    _ request: QEMUResumeRequest,
    _ state: QEMUStoredState,
    of title: String
  ) throws(VMCheckpointError) -> (QEMULaziness, String) {
    switch request.laziness {
    case .mount:
      guard showsRAMAsSaved(request) else {
        throw VMCheckpointError(
          .invalidArgument,
          "a mount shows RAM as the guest saw it, with its overlays and for no other host",
          hint: "leave the options for overlays out, or give --lazy postcopy or none"
        )
      }
      return (.mount, "as asked for")
    case .none?: return (.none, "as asked for")
    case .postcopy:
      if let obstacle = postcopyObstacle {
        throw VMCheckpointError(
          .permissionDenied,
          "\(obstacle.text), which a postcopy migration needs",
          hint: (obstacle.mayRootHelp ? "as root: sysctl vm.unprivileged_userfaultfd=1; or " : "")
            + "give --lazy mount, or --lazy none"
        )
      }
      _ = try QEMUPostcopyStream(state, of: title)
      return (.postcopy, "as asked for")
    case nil: break
    }
    let obstacle: String
    if let found = postcopyObstacle {
      obstacle = found.text + (found.mayRootHelp ? " (vm.unprivileged_userfaultfd is 0)" : "")
    } else {
      do throws(VMCheckpointError) {
        _ = try QEMUPostcopyStream(state, of: title)
        return (.postcopy, "the guest runs at once, and its pages follow")
      } catch {
        obstacle = error.message
      }
    }
    return showsRAMAsSaved(request) && StoreMount.mayMount
      ? (.mount, "pages come when they are touched; \(obstacle)") : (.none, obstacle)
  }

  private static func showsRAMAsSaved(_ request: QEMUResumeRequest) -> Bool {
    request.overlays == .apply && request.tscFrequencyHz == nil && request.cpuVendor == nil
  }

  /// What keeps QEMU from receiving a postcopy migration; `nil`: nothing. What QEMU needs is tried: containers forbid it
  /// to root too, and QEMU would end.
  private static var postcopyObstacle: (text: String, mayRootHelp: Bool)? {
    let descriptor = clinux_userfaultfd()
    guard descriptor >= 0 else {
      let setting = try? String(
        contentsOfFile: "/proc/sys/vm/unprivileged_userfaultfd",
        encoding: .utf8
      )
      return (
        "this user may not use userfaultfd", geteuid() != 0 && setting?.hasPrefix("0") == true
      )
    }
    close(descriptor)
    // QEMU unlocks its memory first. This process has none that is locked.
    return munlockall() == 0 ? nil : ("this user may not call munlockall", false)
  }
}

extension QEMULaziness {
  /// What has to be done before QEMU loads the guest.
  fileprivate var preparation: String {
    switch self {
    case .postcopy: "start"
    case .mount: "mount"
    case .none: "restore"
    }
  }
}
