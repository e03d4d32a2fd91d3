import Glibc

/// Calls `body` with the address of the Unix socket at `path`.
///
/// - Precondition: The path fits into one.
func withUnixAddress<Result>(
  _ path: String,
  _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let bytes = Array(path.utf8)
  precondition(bytes.count < MemoryLayout.size(ofValue: address.sun_path))
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  return withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
}

/// Whether a process of this network namespace listens at the Unix socket `path`. A socket's file is there before that.
package func isListening(_ path: String) -> Bool {
  guard let file = fopen("/proc/net/unix", "re") else { return false }
  defer { fclose(file) }
  var line: UnsafeMutablePointer<CChar>?
  var capacity = 0
  defer { free(line) }
  while getline(&line, &capacity, file) > 0 {
    // Number, references, protocol, flags (of which one says that it listens), type, state, inode, path.
    let words = String(cString: line!).split(
      maxSplits: 7,
      whereSeparator: { $0 == " " || $0 == "\n" }
    )
    if words.count == 8, words[7].split(separator: "\n").first.map(String.init) == path,
      (Int(words[3], radix: 16) ?? 0) & 0x10000 != 0
    {
      return true
    }
  }
  return false
}
