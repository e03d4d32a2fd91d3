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

extension OpenRAMFiles {
  /// The page at `pfn` as a file has it; `nil` outside RAM.
  package func page(at pfn: PFN, _ placement: RAMPlacement) throws(VMCheckpointError)
    -> PageContents?
  {
    guard let place = placement.place(of: pfn) else { return nil }
    return try page(file: place.fileIndex, at: place.fileOffset)
  }

  /// The page at an offset of a file.
  package func page(file index: Int, at offset: UInt64) throws(VMCheckpointError) -> PageContents {
    let file = files[index]
    var bytes = [UInt8](repeating: 0, count: Page.byteCount)
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(Errno) in
        try FileIO.read(into: buffer, from: file.descriptor, at: offset)
      }
    }
    guard case .success(Page.byteCount) = result, let page = PageContents(bytes) else {
      throw VMCheckpointError(
        .inputOutput,
        "cannot read RAM file \(quotedName(file.path)) at offset \(hexString(offset))"
      )
    }
    return page
  }
}
