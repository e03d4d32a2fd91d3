public import ArgumentParser
public import VMCheckpoint
public import VMCheckpointFormats

// Each takes its raw values, which ArgumentParser lists in help and errors.
extension ChunkCompression: ExpressibleByArgument {}
extension CPUVendor: ExpressibleByArgument {}
extension DiskMode: ExpressibleByArgument {}
extension HypercallVariant: ExpressibleByArgument {}
extension MapBasis: ExpressibleByArgument {}
extension OverlayFormat: ExpressibleByArgument {}
extension OverlayTreatment: ExpressibleByArgument {}
extension QEMULaziness: ExpressibleByArgument {}
extension QEMUMachine: ExpressibleByArgument {}
