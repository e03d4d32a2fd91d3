import CLinux

/// What this process was started with.
///
/// Swift's `CommandLine` reads `/proc/self/cmdline`, and has no arguments where `/proc` is not mounted.
package enum ProcessArguments {
  /// The arguments, the program's name first. What is not UTF-8 has replacement characters.
  package static var all: [String] {
    (0..<count).map { String(cString: clinux_argument(Int32($0))) }
  }

  /// The first argument after the program's name that is not UTF-8; counted from 1.
  package static var firstNotUTF8: Int? {
    (1..<max(1, count)).first { String(validatingCString: clinux_argument(Int32($0))) == nil }
  }

  private static var count: Int { Int(clinux_argument_count()) }
}
