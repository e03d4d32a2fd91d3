/// A module that a guest's kernel has loaded.
package struct GuestModule {
  package var name: String?
  /// Where its code begins.
  package var base: UInt64?
  package var byteCount: UInt64?
  package var referenceCount: Int64?
  /// The modules that use it.
  package var users: [String]?
  /// As in /proc/modules: `Live`, `Loading`, `Unloading`.
  package var state: String?
  /// A letter for each taint.
  package var taints: String?
  package var note: String?
}

extension GuestKernel {
  static let moduleLimit = 4096
  private static let moduleStates = ["Live", "Loading", "Unloading", "Unformed"]
  private static let taintLetters = Array("PFSRMBUDAWCIOELKXTNJ")

  /// The loaded modules, the newest first.
  ///
  /// - Throws: ``GuestFault`` when the list cannot be found.
  package func modules() throws -> [GuestModule] {
    let nodes = try ring(headOfModules(), limit: Self.moduleLimit, "modules")
    let listNotes = takeNotes()
    var modules: [GuestModule] = []
    for node in nodes {
      var module = GuestModule()
      do {
        try fill(&module, at: container(node, "module", "list"))
      } catch let fault as GuestFault {
        note("module at \(hexString(node)): \(fault)")
      }
      module.note = takeNotes()
      modules.append(module)
    }
    if let listNotes { note(listNotes) }
    return modules
  }

  private func fill(_ module: inout GuestModule, at object: UInt64) throws {
    module.name = try text(object, "module", "name")
    let state = try u64(object, "module", "state") & 0xffff_ffff
    module.state =
      state < UInt64(Self.moduleStates.count) ? Self.moduleStates[Int(state)] : "\(state)"
    // The kernel's own reference is not counted.
    module.referenceCount = Int64(try s32(address(object, "module", "refcnt"))) - 1
    let taints = try u64(object, "module", "taints")
    module.taints = String(
      Self.taintLetters.enumerated().filter { taints >> UInt64($0.offset) & 1 != 0 }.map(\.element)
    )
    try attempt("its memory") { try fillMemory(&module, at: object) }
    try attempt("its users") {
      module.users = try ring(
        address(object, "module", "source_list"),
        limit: Self.moduleLimit,
        "a module's users"
      ).map { node in
        let use = try container(node, "module_use", "source_list")
        return try text(u64(use, "module_use", "source"), "module", "name")
      }
    }
  }

  private func fillMemory(_ module: inout GuestModule, at object: UInt64) throws {
    if has("module", "mem") {
      // From 6.4 on, an array with a part for each kind of memory; code is the first.
      let memory = try field("module", "mem")
      let size = try byteCount(of: "module_memory")
      var total: UInt64 = 0
      for index in 0..<min(memory.byteCount / size, 64) {
        let part = object &+ UInt64(memory.offset + index * size)
        if index == 0 { module.base = try u64(part, "module_memory", "base") }
        total = total &+ (try u64(part, "module_memory", "size"))
      }
      module.byteCount = total
    } else {
      module.base = try u64(object, "module", "core_layout.base")
      module.byteCount =
        try u64(object, "module", "core_layout.size")
        &+ u64(object, "module", "init_layout.size")
    }
  }
}
