import Glibc
import VMCheckpoint

/// A shared library that is loaded when it is first needed, so that neither building nor starting needs it.
struct LoadedLibrary: Sendable {
  /// The file, such as `libz.so.1`.
  let name: String
  /// Debian's package of it.
  let package: String

  // dlopen's handle; never closed, since functions of the library may run in other threads.
  private nonisolated(unsafe) let handle: UnsafeMutableRawPointer

  /// - Throws: ``VMCheckpointError`` with the code `unavailable`, which names the package.
  init(_ name: String, package: String) throws(VMCheckpointError) {
    guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
      throw VMCheckpointError(
        .unavailable,
        "the library \(name) is missing",
        hint: "install it, as with: apt-get install \(package)"
      )
    }
    self.name = name
    self.package = package
    self.handle = handle
  }

  /// A function of the library.
  ///
  /// - Parameter type: Its type in C, which the compiler cannot check.
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the library has none of the name.
  func function<Function>(
    _ name: String,
    as type: Function.Type
  ) throws(VMCheckpointError) -> Function {
    guard let symbol = dlsym(handle, name) else {
      throw VMCheckpointError(
        .unavailable,
        "the library \(self.name) has no function \(name)",
        hint: "install a current one, as with: apt-get install \(package)"
      )
    }
    return unsafeBitCast(symbol, to: type)
  }
}
