import Glibc

/// The cores that this process may use.
enum ProcessorCount {
  /// At least 1; honours the CPU affinity mask, as containers set it.
  static var available: Int {
    var set = cpu_set_t()
    guard sched_getaffinity(0, MemoryLayout<cpu_set_t>.size, &set) == 0 else {
      return max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    }
    return withUnsafeBytes(of: &set) { bytes in
      max(1, bytes.reduce(0) { $0 + $1.nonzeroBitCount })
    }
  }
}
