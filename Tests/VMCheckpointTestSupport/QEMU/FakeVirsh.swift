import Foundation

/// A program called virsh that knows one running domain with two disks, and notes how it was called.
package final class FakeVirsh: Sendable {
  package static let uuid = "f014def0-0def-4655-a432-d91c9f612e51"

  private let directory: TemporaryDirectory

  /// - Parameter image: The save image that it writes of the domain.
  package init(image: [UInt8]) throws {
    directory = try TemporaryDirectory()
    try writeSparseFile(directory.file("image"), image)
    try writeFile(directory.file("virsh"), Self.script)
    guard chmod(directory.file("virsh"), 0o755) == 0 else { throw TestSetupError("chmod") }
    try set("uri", "echo qemu:///system")
    try set(
      "dominfo",
      "echo 'Name:  web'; echo 'UUID:           \(Self.uuid)'; echo 'State:          running'"
    )
    try set("dumpxml", "echo \"<domain type='qemu' id='1'>\"")
    try set("domblklist", "echo ' vda   /disk one'; echo ' sda   -'; echo")
    try set("snapshot-create-as", "cat $place/image >$file")
    try set("domstate", "echo 'running (unpaused)'")
    try set("domjobinfo", "echo 'Total downtime:   1   ms'")
  }

  /// Each command is a file of the shell. `$file` is what --memspec names.
  private static let script = """
    #!/bin/sh
    place=$(dirname "$0")
    file=
    for word; do
      case $word in
        --memspec=file=*,snapshot=external)
          file=${word#--memspec=file=} file=${file%,snapshot=external}
          file=$(printf %s "$file" | sed 's/,,/,/g') ;;
      esac
    done
    line=$*
    if [ "$file" ]; then
      line=$(printf %s "$line" | sed 's|--memspec=file=[^ ]*/memory,|--memspec=file=FILE,|')
    fi
    printf '%s\\n' "$line" >>"$place/calls"
    for word; do
      case $word in
        -*) ;;
        *) . "$place/$word.sh"; exit ;;
      esac
    done
    """

  /// What environment a command finds it in.
  package var environment: [String: String] {
    ["PATH": "\(directory.path):\(environmentValue("PATH") ?? "/usr/bin:/bin")"]
  }

  /// Lets `command` run these lines of the shell, in which `$place` is the program's directory.
  package func set(_ command: String, _ script: String) throws {
    try writeFile(directory.file("\(command).sh"), script + "\n")
  }

  /// Lets `command` fail with this message.
  package func fail(_ command: String, _ message: String) throws {
    try writeFile(directory.file("message"), message + "\n")
    try set(command, "cat $place/message >&2; exit 1")
  }

  /// Whether one of its scripts has made this file.
  package func has(_ name: String) -> Bool { exists(directory.file(name)) }

  /// The arguments of each call, with FILE for the file that memory was to be written to.
  package var calls: [String] {
    guard let bytes = try? readFile(directory.file("calls")) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }
}
