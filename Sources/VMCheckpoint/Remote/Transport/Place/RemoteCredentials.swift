import Foundation
import Glibc
import SystemPackage

/// Who asks an object store. Never in a store, an argument, a message or a log.
package struct RemoteCredentials: Sendable, Hashable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  package let accessKeyID: String
  package let secretAccessKey: String
  /// Of temporary credentials.
  package let sessionToken: String?

  /// - Throws: ``VMCheckpointError`` with the code `invalidData` for what no server takes.
  package init(
    accessKeyID: String,
    secretAccessKey: String,
    sessionToken: String? = nil
  ) throws(VMCheckpointError) {
    // Both go into headers, where a line break would begin another.
    func isUsable(_ text: String, _ maximumCount: Int) -> Bool {
      (1...maximumCount).contains(text.utf8.count)
        && text.utf8.allSatisfy { (33..<127).contains($0) }
    }
    guard isUsable(accessKeyID, 256), !accessKeyID.utf8.contains(UInt8(ascii: "/")),
      isUsable(secretAccessKey, 1024), sessionToken.map({ isUsable($0, 8192) }) ?? true
    else {
      throw VMCheckpointError(
        .invalidData,
        "the credentials of the object store have characters that no key has",
        hint: "check them for spaces, line breaks and quotation marks"
      )
    }
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
  }

  package var description: String { "credentials" }
  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Where ``RemoteCredentials`` and the region come from.
package struct RemoteCredentialSource: Sendable {
  /// More than a file of credentials has.
  private static let maximumFileByteCount = 256 << 10

  /// A file that the user named, or `nil`.
  package var path: String?
  package var environment: [String: String]

  /// - Parameters:
  ///   - path: A file that only this user may read, in the form of `~/.aws/credentials`.
  package init(
    path: String? = nil,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) {
    self.path = path
    self.environment = environment
  }

  /// The credentials: those of the environment, else of the file that the user named, else of `~/.aws/credentials`.
  ///
  /// - Throws: ``VMCheckpointError``: `permissionDenied` when there are none, or others may read the file that was
  ///   named; `notFound` when that is missing; `invalidData` when they cannot be understood.
  package func credentials() throws(VMCheckpointError) -> RemoteCredentials {
    if let found = try environmentCredentials() { return found }
    let file: String
    let isNamed: Bool
    if let path {
      (file, isNamed) = (path, true)
    } else if let path = awsFile("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
      (file, isNamed) = (path, false)
    } else {
      throw missing()
    }
    guard let text = try Self.text(of: file, isSecret: isNamed, mustExist: isNamed) else {
      throw missing()
    }
    let values = try Self.sections(text, path: file)[profile] ?? [:]
    guard let key = values["aws_access_key_id"], let secret = values["aws_secret_access_key"] else {
      throw VMCheckpointError(
        .permissionDenied,
        "the file \(quotedName(file)) has no credentials for the profile \(quotedName(profile))",
        hint: "set AWS_PROFILE to one that has aws_access_key_id and aws_secret_access_key"
      )
    }
    return try RemoteCredentials(
      accessKeyID: key,
      secretAccessKey: secret,
      sessionToken: values["aws_session_token"]
    )
  }

  /// The region that the environment or `~/.aws/config` names; `nil` when neither does.
  ///
  /// - Throws: ``VMCheckpointError`` when the file cannot be read or understood.
  package func region() throws(VMCheckpointError) -> String? {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
      if let region = environment[name], !region.isEmpty { return region }
    }
    guard let file = awsFile("AWS_CONFIG_FILE", "config"),
      let text = try Self.text(of: file, isSecret: false, mustExist: false)
    else { return nil }
    let sections = try Self.sections(text, path: file)
    let section = profile == "default" ? sections["default"] : nil
    return (section ?? sections["profile \(profile)"])?["region"]
  }

  private var profile: String {
    environment["AWS_PROFILE"].flatMap { $0.isEmpty ? nil : $0 } ?? "default"
  }

  private func environmentCredentials() throws(VMCheckpointError) -> RemoteCredentials? {
    func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    let (key, secret) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"))
    switch (key, secret) {
    case (nil, nil): return nil
    case (let key?, let secret?):
      return try RemoteCredentials(
        accessKeyID: key,
        secretAccessKey: secret,
        sessionToken: value("AWS_SESSION_TOKEN")
      )
    default:
      let absent = key == nil ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY"
      throw VMCheckpointError(
        .permissionDenied,
        "the environment has half of an object store's credentials: \(absent) is not set",
        hint: "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither"
      )
    }
  }

  /// A file of AWS's tools: where a variable says, else in `~/.aws`.
  private func awsFile(_ variable: String, _ name: String) -> String? {
    if let path = environment[variable], !path.isEmpty { return path }
    guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
    return "\(home)/.aws/\(name)"
  }

  private func missing() -> VMCheckpointError {
    VMCheckpointError(
      .permissionDenied,
      "there are no credentials for the object store",
      hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials"
    )
  }

  // MARK: Files

  /// The text of a file; `nil` when it is missing and may be.
  ///
  /// - Parameter isSecret: Whether only this user may be able to read it.
  private static func text(
    of path: String,
    isSecret: Bool,
    mustExist: Bool
  ) throws(VMCheckpointError) -> [UInt8]? {
    let title = "file of credentials \(quotedName(path))"
    let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else {
      let error = Errno(rawValue: errno)
      let isMissing = error == .noSuchFileOrDirectory || error == .notDirectory
      if isMissing, !mustExist { return nil }
      throw .cannotOpen(title, error)
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw VMCheckpointError(.invalidData, "the \(title) is not a regular file")
    }
    guard status.st_uid == geteuid() || (!isSecret && status.st_uid == 0) else {
      throw VMCheckpointError(
        .permissionDenied,
        "the \(title) belongs to another user (uid \(status.st_uid))",
        hint: "give it to this user, with: chown"
      )
    }
    guard status.st_mode & (isSecret ? 0o177 : 0o022) == 0 else {
      throw VMCheckpointError(
        .permissionDenied,
        "others may \(isSecret ? "read or change" : "change") the \(title) "
          + "(mode \(UserStateFolder.octal(status.st_mode)))",
        hint: "make it this user's alone, with: chmod 600 FILE"
      )
    }
    guard status.st_size <= maximumFileByteCount else {
      throw VMCheckpointError(.invalidData, "the \(title) is too long")
    }
    var bytes = [UInt8](repeating: 0, count: maximumFileByteCount)
    do throws(Errno) {
      let result = bytes.withUnsafeMutableBytes { buffer in
        Result { () throws(Errno) in
          try FileIO.read(into: buffer, from: FileDescriptor(rawValue: descriptor), at: 0)
        }
      }
      return Array(bytes[..<(try result.get())])
    } catch {
      throw VMCheckpointError(.inputOutput, "cannot read the \(title): \(error)")
    }
  }

  /// Names and values by their section, as AWS's tools write them; what comes before the first is of `default`.
  private static func sections(
    _ text: [UInt8],
    path: String
  ) throws(VMCheckpointError) -> [String: [String: String]] {
    var sections: [String: [String: String]] = [:]
    var section = "default"
    guard let text = String(validating: text, as: UTF8.self) else {
      throw VMCheckpointError(.invalidData, "the file \(quotedName(path)) is not text")
    }
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (index, line) in lines.enumerated() {
      let line = line.trimmingPrefix(while: \.isWhitespace)
      // An indented line is a nested setting, such as of s3.
      guard let first = line.first, first != "#", first != ";" else { continue }
      if first == "[" {
        guard let end = line.firstIndex(of: "]") else {
          throw Self.unclear(path, line: index + 1)
        }
        section = line[line.index(after: line.startIndex)..<end].split(separator: " ")
          .joined(separator: " ")
        continue
      }
      guard let equals = line.firstIndex(of: "=") else { throw Self.unclear(path, line: index + 1) }
      func trimmed(_ text: Substring) -> String {
        var text = text.drop(while: \.isWhitespace)
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
      }
      let name = trimmed(line[..<equals]).lowercased()
      sections[section, default: [:]][name] = trimmed(line[line.index(after: equals)...])
    }
    return sections
  }

  /// Without what the line says, which may be a key.
  private static func unclear(_ path: String, line: Int) -> VMCheckpointError {
    VMCheckpointError(
      .invalidData,
      "line \(line) of the file \(quotedName(path)) is neither a [section] nor a name = value"
    )
  }
}
