import Foundation
import VMCheckpoint

// How a VMM saves a guest with this library, and how it gets the guest back: what to call, and in
// which order. DocC's article "Using the library from a VMM" says the same in prose.

/// What of the VM is neither RAM nor overlays nor vCPU.
struct VMState: Codable {
  var hyperV: HyperVRegisters.Saved

  /// How a reference TSC page gets its contents when the guest enables one.
  var clock: ReferenceClock

  /// What the guest's TSC read, and how fast it ticked.
  var tsc: UInt64
  var tscFrequencyHz: UInt64

  /// The time that the reference TSC page gave at that moment; `nil` when there was none.
  var referenceTime: Int64?

  private static let name = "vm"
  private static let format = "kvm-overlay-guest-json"

  func deviceState() throws -> DeviceState {
    let data = try JSONEncoder().encode(self)
    return DeviceState(name: Self.name, format: Self.format, version: 1, data: Array(data))
  }

  init(from states: [DeviceState]) throws {
    let data = try states.data(Self.name, format: Self.format, version: 1)
    self = try JSONDecoder().decode(VMState.self, from: Data(data))
    guard tscFrequencyHz > 0 else { throw KVMError("the saved TSC does not tick") }
  }

  init(of guest: Guest) throws {
    hyperV = guest.hyperV.saved
    clock = guest.clock
    tsc = try guest.machine.vcpu.tsc
    tscFrequencyHz = guest.tscFrequencyHz
    for page in try guest.hyperV.overlays.overlays.compactMap(\.parameters.referenceTSC) {
      referenceTime = ReferenceClock.time(page, tsc: tsc)
    }
  }
}

/// Where the RAM of a guest that goes on is.
enum RAMPlace {
  /// In a file that does not exist yet, and is restored.
  case file(path: String)
  /// With the page server at this socket.
  case served(socketPath: String)
}

extension Guest {
  /// Saves the guest, which then goes on.
  func save(as name: String, toStoreAt storePath: String) throws -> SaveResult {
    // 1. vCPUs stop, each between two instructions.
    try machine.vcpu.completeExit()

    //    What a page server has not put in place yet comes now.
    ram.complete()

    // 2. Overlays are dropped: from here on RAM is bare, and holds what the guest itself wrote.
    //    They come back before a vCPU runs again, also when saving fails.
    let overlays = hyperV.overlays
    try overlays.pause()
    let result = Result {
      // 3. One snapshot holds RAM, the overlays' parameters, and the VMM's own state.
      try Store.save(
        SaveRequest(
          input: .file(path: ram.path),
          layout: .regions(ram.layout),
          name: name,
          vm: "kvm-overlay-guest",
          overlays: OverlayDocument(
            guestOSID: hyperV.hypercall.guestOSID.rawValue,
            records: overlays.records
          ),
          deviceStates: [machine.vcpu.deviceState(), VMState(of: self).deviceState()]
        ),
        toStoreAt: storePath
      )
    }
    try overlays.resume()
    return try result.get()
  }

  /// A saved guest in a new VM, ready to go on.
  ///
  /// - Parameters:
  ///   - place: Where its RAM goes, or comes from.
  ///   - tscFrequencyHz: The TSC frequency that the guest learns here; `nil`: what KVM says.
  ///   - rebuildsOverlays: `false` leaves RAM bare, which is a mistake: see what a guest makes of
  ///     it.
  static func restore(
    _ reference: String,
    fromStoreAt storePath: String,
    place: RAMPlace,
    tscFrequencyHz: UInt64?,
    rebuildsOverlays: Bool
  ) throws -> Guest {
    // 1. RAM first, bare. The UUID makes sure that everything else is of the same snapshot.
    let store = try Store.open(at: storePath)
    let detail: SnapshotDetail
    let ram: MappedRAM
    switch place {
    case .file(let path):
      let restored = try store.restore(
        RestoreRequest(
          reference: SnapshotReference(reference),
          output: .file(path: path),
          overlays: .omit
        )
      )
      detail = try store.snapshot(SnapshotReference(restored.uuid))
      ram = try MappedRAM(path: path, layout: RAMLayout(regions: detail.regions))
    case .served(let socketPath):
      // Nothing is restored: pages come when they are touched, from
      // `vmckpt serve REF --uffd SOCKET --overlays omit`, which must serve the same snapshot.
      detail = try store.snapshot(SnapshotReference(reference))
      ram = try MappedRAM(servedAt: socketPath, layout: RAMLayout(regions: detail.regions))
    }
    let snapshot = try SnapshotReference(detail.summary.uuid)
    let layout = ram.layout

    // 2. The VM and its vCPU, with the state that they had.
    let machine = try KVMMachine(ram: ram)
    let vcpu = machine.vcpu
    let states = try store.deviceStates(of: snapshot)
    try vcpu.restore(from: states)
    let state = try VMState(from: states)

    // 3. The TSC of this host, and overlays for it. Time does not pass for a saved guest.
    let hostFrequencyHz = try tscFrequencyHz ?? vcpu.tscFrequencyHz
    guard
      let tsc = ReferenceClock.rescaled(state.tsc, from: state.tscFrequencyHz, to: hostFrequencyHz)
    else { throw KVMError("the guest's TSC would overflow at \(hostFrequencyHz) Hz") }
    if try !vcpu.setTSC(tsc) { warn("KVM cannot set the guest's TSC here") }
    var document = try detail.overlays.retargeted(
      tscFrequencyHz: hostFrequencyHz,
      cpuVendor: nil  // this VMM's hypercall page does not depend on it
    )
    if let time = state.referenceTime {
      document = try ReferenceClock.continuing(document, from: time, tsc: vcpu.tsc)
    }

    // 4. Overlays over bare RAM, by kind and priority, then the registers that placed them.
    let overlays = try OverlayManager(restoring: document.validated(in: layout), in: ram)
    if rebuildsOverlays { try overlays.resume() }
    let hyperV = try HyperVRegisters(saved: state.hyperV, overlays: overlays)

    // 5. vCPUs run: Guest.perform(_:).
    return Guest(
      ram: ram,
      machine: machine,
      hyperV: hyperV,
      clock: state.clock,
      tscFrequencyHz: hostFrequencyHz
    )
  }
}
