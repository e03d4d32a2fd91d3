import ArgumentParser
import VMCheckpoint

/// The options of all commands that speak to remotes.
struct RemoteArguments: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "A file with the credentials, as ~/.aws/credentials, which only its owner may read. "
        + "(default: $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, else ~/.aws/credentials)",
      valueName: "file"
    )
  )
  var credentials: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Certificates to trust in place of the system's. (default: $AWS_CA_BUNDLE)",
      valueName: "file"
    )
  )
  var caFile: String?

  @Flag(
    name: .long,
    help: "Let plain HTTP go to other hosts, which anybody on the way can read."
  )
  var insecureHTTP = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Send and receive at most so many bytes a second: 10M, for example.",
      valueName: "bytes"
    ),
    transform: Self.parseRate
  )
  var limitRate: UInt64?

  @Flag(
    name: .long,
    help: "Say that the store's remote is the right place, where this user has never used it."
  )
  var confirmRemote = false

  private static func parseRate(_ text: String) throws(ArgumentError) -> UInt64 {
    let rate = try ByteSize.parse(text)
    guard rate >= 1024 else { throw ArgumentError("expected at least 1K") }
    return rate
  }

  /// What the library needs to know.
  var access: RemoteAccess {
    var access = RemoteAccess()
    access.credentialsPath = credentials
    if let caFile { access.caFile = caFile }
    access.allowsPlainHTTP = insecureHTTP
    access.limitBytesPerSecond = limitRate
    access.confirms = confirmRemote
    return access
  }
}

/// Where a remote is.
struct RemotePlaceArguments: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "s3://BUCKET/PREFIX, or file:///FOLDER.",
      valueName: "address"
    )
  )
  var address: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The server, such as https://objects.example.com. (default: AWS)",
      valueName: "url"
    )
  )
  var endpoint: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The region. (default: $AWS_REGION, else ~/.aws/config, else us-east-1)",
      valueName: "region"
    )
  )
  var region: String?

  @Option(
    name: .long,
    help: ArgumentHelp("What the store calls the remote.", valueName: "name")
  )
  var name = "origin"

  func validate() throws {
    do throws(VMCheckpointError) {
      try SnapshotName.check(name, what: "remote's name")
    } catch {
      throw ValidationError(error.message)
    }
    guard name.utf8.count <= 64 else {
      throw ValidationError("a remote's name has at most 64 bytes")
    }
  }

  var location: RemoteLocation {
    RemoteLocation(address: address, endpoint: endpoint, region: region)
  }
}

/// Which of the store's remotes.
struct RemoteChoice: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Which of the store's remotes. (default: the only one, else origin)",
      valueName: "name"
    )
  )
  var remote: String?
}
