import SystemPackage
import VMCheckpoint

/// RAM of a VM of VMware, as something to save. RAM is read in place.
struct VMwareSource: CaptureSource {
  /// The whole file with the VM's state: a device state's name and format.
  static let stateFormat = "vmware-state"
  static let stateVersion: UInt32 = 1
  /// A state has some MiB beside RAM.
  private static let maximumStateByteCount: UInt64 = 256 << 20
  static let ramExtension = ".vmem"
  private static let stateExtensions = [".vmss", ".vmsn"]

  let file: String

  var path: String? { file }

  /// With the files that may be found beside the one that is named.
  var readPaths: [String] {
    let suffixes = Self.stateExtensions + [Self.ramExtension]
    guard let suffix = suffixes.first(where: file.hasSuffix) else { return [file] }
    let stem = String(file.dropLast(suffix.count))
    return suffixes.map { stem + $0 }
  }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: file)
    return CaptureNames(snapshot: name, vm: name, description: "vmware:\(file)")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    try context.requireNoLayout(name: "VMware RAM \(quotedName(file))")
    let (statePath, descriptor, byteCount) = try openState()
    defer { try? descriptor.close() }
    let name = "VMware state \(quotedName(statePath))"
    let stateFile = DumpFile(descriptor: descriptor, byteCount: byteCount)
    let state: VMwareState
    do throws(VMCheckpointError) {
      state = try VMwareState(stateFile)
    } catch {
      throw error.naming(name)
    }
    var guest = try guest(state, statePath, name, context.control)
    for warning in state.warnings { context.control.onWarning?("\(name): \(warning)") }
    if state.memory == nil, byteCount <= Self.maximumStateByteCount {
      let bytes: [UInt8]
      do throws(VMCheckpointError) {
        bytes = try stateFile.read(at: 0, byteCount: Int(byteCount), place: "at its end")
      } catch {
        throw error.naming(name)
      }
      guest.deviceStates = [
        DeviceState(
          name: Self.stateFormat,
          format: Self.stateFormat,
          version: Self.stateVersion,
          data: bytes
        )
      ]
    } else {
      context.control.onWarning?(
        "\(name): what it has beside RAM is not kept: it is not a file by itself, or too large"
      )
    }
    return try use(guest)
  }

  /// Opens the state: the file itself, or the one beside RAM.
  private func openState() throws(VMCheckpointError) -> (String, FileDescriptor, UInt64) {
    guard file.hasSuffix(Self.ramExtension) else {
      let (descriptor, byteCount) = try FileRAMReader.open(path: file, noun: "VMware state")
      return (file, descriptor, byteCount)
    }
    let stem = String(file.dropLast(Self.ramExtension.count))
    for suffix in Self.stateExtensions {
      let path = stem + suffix
      do throws(VMCheckpointError) {
        let (descriptor, byteCount) = try FileRAMReader.open(path: path, noun: "VMware state")
        return (path, descriptor, byteCount)
      } catch {
        guard error.code == .notFound else { throw error }
      }
    }
    throw VMCheckpointError(
      .notFound,
      "VMware RAM \(quotedName(file)) has no state beside it: neither "
        + "\(quotedName(stem + Self.stateExtensions[0])) nor \(quotedName(stem + Self.stateExtensions[1]))",
      hint: "put it there; raw:PATH is right for a guest with up to 3 GiB of RAM"
    )
  }

  private func guest(
    _ state: VMwareState,
    _ statePath: String,
    _ name: String,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> CapturedGuest {
    let ramPath = try ramPath(state, statePath)
    // What is wrong is wrong with the state, also where RAM does not fit it.
    var failure: VMCheckpointError?
    do throws(VMCheckpointError) {
      return try MappedDump.open(path: ramPath, noun: "VMware RAM") {
        dump throws(VMCheckpointError) in
        let (start, byteCount) = state.memory ?? (0, dump.byteCount ?? 0)
        guard byteCount > 0, byteCount % UInt64(Page.byteCount) == 0 else {
          throw .invalidData("has \(byteCount) bytes, which is not a multiple of 4096")
        }
        let map: LoadMap
        do throws(VMCheckpointError) {
          map = try LoadMap(state.loads(fileOffset: start, byteCount: byteCount), isX86: true)
        } catch {
          failure = error.naming(name)
          throw error
        }
        if map.layout.byteCount < byteCount {
          control.onWarning?(
            "\(name): \(byteCount - map.layout.byteCount) bytes of RAM's file are in no region and are not kept"
          )
        }
        return map
      }
    } catch {
      throw failure ?? error
    }
  }

  /// The file that RAM is in.
  private func ramPath(
    _ state: VMwareState,
    _ statePath: String
  ) throws(VMCheckpointError) -> String {
    if state.memory != nil {
      guard !file.hasSuffix(Self.ramExtension) else {
        throw .invalidData(
          "VMware RAM \(quotedName(file)) is not its state's: \(quotedName(statePath)) has RAM in it",
          hint: "vmware:\(statePath) saves what is in the state"
        )
      }
      return statePath
    }
    if file.hasSuffix(Self.ramExtension) { return file }
    guard let suffix = Self.stateExtensions.first(where: { statePath.hasSuffix($0) }) else {
      throw .invalidData(
        "VMware state \(quotedName(statePath)) has no RAM in it, and its name does not say where that is",
        hint: "call it NAME.vmss, and RAM NAME.vmem"
      )
    }
    return String(statePath.dropLast(suffix.count)) + Self.ramExtension
  }
}
