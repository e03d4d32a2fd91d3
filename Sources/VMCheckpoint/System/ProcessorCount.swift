import CLinux
import Glibc

/// The cores that this process may use.
package enum ProcessorCount {
  /// At least 1; honours the CPU affinity mask, as containers set it.
  package static var available: Int {
    let count = Int(clinux_available_processor_count())
    return count > 0 ? count : max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  }
}
