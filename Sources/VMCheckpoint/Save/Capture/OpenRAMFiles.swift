package import SystemPackage

/// Files that hold RAM, open for as long as this object lives.
package final class OpenRAMFiles: Sendable {
  /// An open file, and what messages call it.
  package struct File: Sendable {
    package let descriptor: FileDescriptor
    package let path: String

    package init(descriptor: FileDescriptor, path: String) {
      self.descriptor = descriptor
      self.path = path
    }
  }

  package let files: [File]

  /// Takes the files' descriptors over.
  package init(_ files: [File]) {
    self.files = files
  }

  deinit {
    for file in files { try? file.descriptor.close() }
  }
}
