/// Finds a kernel that is known in a guest's RAM, by the SHA-256 of one of its pages.
struct KnownKernelSearch {
  private let ram: any GuestRAM
  private let folder: KnownKernelFolder

  init(_ ram: any GuestRAM, _ folder: KnownKernelFolder) {
    self.ram = ram
    self.folder = folder
  }

  /// A page may be there more than once, as of a file that has the kernel.
  private static let attemptLimit = 16

  /// The system with the first kernel that passes all checks; `nil` where none does, and a search is due.
  ///
  /// - Throws: What keeps RAM from being read.
  func system() throws -> GuestSystem? {
    let anchors = folder.anchors()
    guard !anchors.isEmpty else { return nil }
    for (pfn, anchor) in try ram.places(of: anchors, limit: Self.attemptLimit) {
      guard let known = folder.kernel(anchor),
        let system = try system(known, at: pfn << UInt64(Page.shift))
      else { continue }
      return system
    }
    return nil
  }

  private func system(_ known: KnownKernel, at anchorGPA: UInt64) throws -> GuestSystem? {
    let indexGPA = anchorGPA + UInt64(known.indexOffset)
    let typesGPA = anchorGPA &+ UInt64(bitPattern: known.typesDistance)
    guard let tokens = try TokenTable(ram, indexAt: indexGPA),
      let kallsyms = try KallsymsFinder(ram).symbols(tokens),
      let (types, range) = try BTF.read(ram, at: typesGPA)
    else { return nil }
    // As a search does: what a guest says to crash dumps is asked where the kernel is not enough.
    var infos: [VMCoreInfo?] = [nil]
    if let gpa = known.infoGPA, let page = try ram.page(gpa >> UInt64(Page.shift)),
      VMCoreInfo.isBeginning(page)
    {
      infos.append(VMCoreInfo(page))
    }
    for info in infos {
      do {
        let kernel = try KernelSettling(ram, kallsyms, types, range, info).kernel()
        var system = GuestSystem(kernel: kernel, info: info)
        system.wasKnown = true
        return system
      } catch is GuestFault {
        continue
      }
    }
    return nil
  }
}

extension BTF {
  /// The kernel's types at a place in a guest's RAM, and where they end; `nil` where there are none.
  static func read(
    _ ram: any GuestRAM,
    at gpa: UInt64,
    byteLimit: Int = BTF.maximumByteCount
  ) throws -> (types: BTF, range: Range<UInt64>)? {
    guard let header = try ram.bytes(gpa, count: headerByteCount),
      let count = header.withUnsafeBytes({ byteCount($0) }), count <= byteLimit,
      let bytes = try ram.bytes(gpa, count: count)
    else { return nil }
    do throws(GuestFault) {
      let types = try BTF(bytes)
      guard types.structure("task_struct") != nil else { return nil }
      return (types, gpa..<(gpa + UInt64(count)))
    } catch {
      return nil
    }
  }
}
