/// What a guest's kernel uses a page frame for.
package enum FrameClass: UInt8, CaseIterable, Sendable {
  /// Nothing that is known here says what the frame is for.
  case other
  /// The kernel's page array has no entry for the frame, or that is not in RAM.
  case unknown
  case free
  case slab
  /// A page of a file: of its cached content, or of shared memory.
  case file
  case anonymous
  case pageTable
  case kernelImage
  case module
  case vmalloc
  case kernelStack
  case pageArray
  case perCPU
  /// Set aside at boot: by the firmware, or by the kernel before its allocator worked.
  case reserved

  /// As tables show it.
  package var name: String {
    switch self {
    case .other: "other"
    case .unknown: "unknown"
    case .free: "free"
    case .slab: "slab"
    case .file: "file"
    case .anonymous: "anonymous"
    case .pageTable: "page table"
    case .kernelImage: "kernel image"
    case .module: "module"
    case .vmalloc: "vmalloc"
    case .kernelStack: "kernel stack"
    case .pageArray: "page array"
    case .perCPU: "per-CPU"
    case .reserved: "reserved"
    }
  }
}

/// What owns a frame, besides a process that has it mapped.
package struct FrameOwner: Sendable {
  /// A slab cache, a file system's type, a task's name.
  package var name: String?
  /// A file's path.
  package var file: String?
  /// A task, where the frame is its alone.
  package var pid: Int64?

  package init(name: String? = nil, file: String? = nil, pid: Int64? = nil) {
    self.name = name
    self.file = file
    self.pid = pid
  }
}
