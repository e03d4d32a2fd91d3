import Glibc

/// The first three file descriptors.
package enum StandardDescriptors {
  /// Sees to it that descriptors 0 to 2 are open.
  ///
  /// A program started with one of them closed (`vmckpt list >&-`) would get its number for the
  /// next file it opens, and could print its results into the store. A closed one is opened in
  /// the direction in which it cannot be used, so that using it is still the error that it was.
  package static func reserve() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) == -1 {
      let opened = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
      // The lowest free number is given out, so it is this one unless opening failed.
      if opened >= 0, opened != descriptor { close(opened) }
    }
  }
}
