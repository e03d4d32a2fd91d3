import Glibc

/// A shared library that is loaded when it is first needed, so that neither building nor starting needs it.
package struct LoadedLibrary: Sendable {
  /// The file, such as `libz.so.1`.
  package let name: String
  /// Debian's package of it.
  package let debianPackage: String

  // dlopen's handle; never closed, since functions of the library may run in other threads.
  private nonisolated(unsafe) let handle: UnsafeMutableRawPointer

  /// - Throws: ``VMCheckpointError`` with the code `unavailable`, which names the package.
  package init(_ name: String, package: String) throws(VMCheckpointError) {
    guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
      throw VMCheckpointError(
        .unavailable,
        "the library \(name) is missing",
        hint: "install it, as with: apt-get install \(package)"
      )
    }
    self.name = name
    debianPackage = package
    self.handle = handle
  }

  /// A function of the library.
  ///
  /// - Parameter type: Its type in C, which the compiler cannot check.
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the library has none of the name.
  package func function<Function>(
    _ name: String,
    as type: Function.Type
  ) throws(VMCheckpointError) -> Function {
    unsafeBitCast(try address(name), to: type)
  }

  /// The address of a function of the library, for C.
  ///
  /// - Throws: As ``function(_:as:)``.
  package func address(_ name: String) throws(VMCheckpointError) -> UnsafeMutableRawPointer {
    guard let symbol = dlsym(handle, name) else {
      throw VMCheckpointError(
        .unavailable,
        "the library \(self.name) has no function \(name)",
        hint: "install a current one, as with: apt-get install \(debianPackage)"
      )
    }
    return symbol
  }
}
