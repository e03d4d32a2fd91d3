import Glibc

/// Time for measuring and for deadlines; it never jumps.
package enum MonotonicClock {
  /// Seconds since some moment before the process began.
  package static var nowSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
