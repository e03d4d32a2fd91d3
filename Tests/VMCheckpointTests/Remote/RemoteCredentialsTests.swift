import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Where credentials come from, and that they go nowhere else.
@Suite struct RemoteCredentialsTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func file(_ text: String, mode: mode_t = 0o600, name: String = "credentials") throws
    -> String
  {
    try writeFile(directory.file(name), text)
    chmod(directory.file(name), mode)
    return directory.file(name)
  }

  private let text = """
    # of the tests
    [default]
    aws_access_key_id = FILEKEY
    aws_secret_access_key=FileSecret/+=
    s3 =
        max_concurrent_requests = 20
    [ci]
    aws_access_key_id = CIKEY
    aws_secret_access_key = CiSecret
    aws_session_token = CiToken

    """

  @Test func theEnvironmentComesFirst() throws {
    let source = RemoteCredentialSource(
      path: try file(text),
      environment: [
        "AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "EnvSecret",
        "AWS_SESSION_TOKEN": "EnvToken",
      ]
    )
    let found = try source.credentials()
    #expect(found.accessKeyID == "ENVKEY" && found.secretAccessKey == "EnvSecret")
    #expect(found.sessionToken == "EnvToken")
  }

  @Test func halfOfAPairIsNotReplacedByAFile() throws {
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
      let source = RemoteCredentialSource(path: try file(text), environment: [name: "Half"])
      let error = #expect(throws: VMCheckpointError.self) { try source.credentials() }
      #expect(error?.code == .permissionDenied && error?.message.contains("Half") == false)
    }
  }

  @Test func profilesAreFoundInFiles() throws {
    let path = try file(text)
    let plain = try RemoteCredentialSource(path: path, environment: [:]).credentials()
    #expect(plain.accessKeyID == "FILEKEY" && plain.secretAccessKey == "FileSecret/+=")
    #expect(plain.sessionToken == nil)
    let other = try RemoteCredentialSource(path: path, environment: ["AWS_PROFILE": "ci"])
      .credentials()
    #expect(other.accessKeyID == "CIKEY" && other.sessionToken == "CiToken")
    let error = #expect(throws: VMCheckpointError.self) {
      try RemoteCredentialSource(path: path, environment: ["AWS_PROFILE": "none"]).credentials()
    }
    #expect(error?.message.contains("none") == true)
  }

  @Test func awsToolsFilesAreFound() throws {
    _ = try directory.subdirectory(".aws")
    _ = try file(text, mode: 0o644, name: ".aws/credentials")
    let config = "[default]\nregion = eu-west-1\n[profile ci]\nregion=ap-south-1\n"
    _ = try file(config, mode: 0o644, name: ".aws/config")
    let home = ["HOME": directory.path]
    #expect(try RemoteCredentialSource(environment: home).credentials().accessKeyID == "FILEKEY")
    #expect(try RemoteCredentialSource(environment: home).region() == "eu-west-1")
    let ci = home.merging(["AWS_PROFILE": "ci"]) { $1 }
    #expect(try RemoteCredentialSource(environment: ci).region() == "ap-south-1")
    let named = home.merging(["AWS_REGION": "us-west-2"]) { $1 }
    #expect(try RemoteCredentialSource(environment: named).region() == "us-west-2")
    let elsewhere = ["AWS_SHARED_CREDENTIALS_FILE": directory.file(".aws/credentials")]
    #expect(
      try RemoteCredentialSource(environment: elsewhere).credentials().accessKeyID == "FILEKEY"
    )
  }

  @Test(arguments: [0o644, 0o640, 0o620, 0o602, 0o700] as [mode_t])
  func aFileThatOthersCanReadIsRefused(_ mode: mode_t) throws {
    let source = RemoteCredentialSource(path: try file(text, mode: mode), environment: [:])
    let error = #expect(throws: VMCheckpointError.self) { try source.credentials() }
    #expect(error?.code == .permissionDenied)
    #expect(error?.message.contains(String(mode, radix: 8)) == true)
  }

  @Test(.enabled(if: geteuid() == 0, "only root gives files away"))
  func aFileOfAnotherUserIsRefused() throws {
    let path = try file(text)
    try OtherUser.own(path)
    let error = #expect(throws: VMCheckpointError.self) {
      try RemoteCredentialSource(path: path, environment: [:]).credentials()
    }
    #expect(error?.code == .permissionDenied)
  }

  @Test func nothingIsSaidOfAFileThatIsNotOne() throws {
    for text in ["TheSecretItself\n", "[default\naws_secret_access_key = TheSecretItself\n"] {
      let source = RemoteCredentialSource(path: try file(text), environment: [:])
      let error = #expect(throws: VMCheckpointError.self) { try source.credentials() }
      #expect(error?.code == .invalidData)
      #expect(error?.description.contains("TheSecretItself") == false)
    }
    for path in [directory.path, "/dev/null", directory.file("none")] {
      let source = RemoteCredentialSource(path: path, environment: [:])
      #expect(throws: VMCheckpointError.self) { try source.credentials() }
    }
    let error = #expect(throws: VMCheckpointError.self) {
      try RemoteCredentialSource(environment: ["HOME": directory.path]).credentials()
    }
    #expect(error?.hint?.contains("AWS_ACCESS_KEY_ID") == true)
  }

  @Test func credentialsAreNotPrinted() throws {
    let found = try RemoteCredentials(
      accessKeyID: "KEYKEY",
      secretAccessKey: "TheSecretItself",
      sessionToken: "TheTokenItself"
    )
    var dumped = ""
    dump(found, to: &dumped)
    for text in [
      "\(found)", String(reflecting: found), dumped, "\([found])",
      String(describing: Optional(found)),
    ] {
      #expect(!text.contains("Itself") && !text.contains("KEYKEY"), "\(text)")
    }
  }

  @Test func aKeyCannotBecomeAHeader() {
    for text in ["a b", "a\r\nX: y", "é", ""] {
      #expect(throws: VMCheckpointError.self) {
        try RemoteCredentials(accessKeyID: "KEY", secretAccessKey: text)
      }
    }
  }

  // MARK: What was confirmed

  private func trust() throws -> RemoteTrust {
    try RemoteTrust(in: UserStateFolder(path: directory.file("state")))
  }

  private func subject(
    _ store: String = "11111111-2222-4333-8444-555555555555",
    _ address: String = "s3://bucket/fleet",
    _ endpoint: String? = "https://a.example"
  ) throws -> RemoteTrust.Subject {
    RemoteTrust.Subject(
      storeID: store,
      address: try RemoteAddress(address),
      endpoint: try endpoint.map { try RemoteEndpoint($0) }
    )
  }

  @Test func onlyWhatWasConfirmedIsTrusted() throws {
    let confirmed = try subject()
    #expect(try !trust().isConfirmed(confirmed))
    try trust().confirm(confirmed)
    try trust().confirm(confirmed)
    #expect(try trust().isConfirmed(confirmed))
    for other in [
      try subject("11111111-2222-4333-8444-555555555556"),
      try subject("11111111-2222-4333-8444-555555555555", "s3://bucket/other"),
      try subject("11111111-2222-4333-8444-555555555555", "s3://bucket/fleet", "http://a.example"),
      try subject("11111111-2222-4333-8444-555555555555", "s3://bucket/fleet", nil),
    ] {
      #expect(try !trust().isConfirmed(other))
    }
    try trust().forget(confirmed)
    try trust().forget(confirmed)
    #expect(try !trust().isConfirmed(confirmed))
  }

  @Test func anAnswerThatOthersCouldWriteIsNoAnswer() throws {
    let confirmed = try subject()
    try trust().confirm(confirmed)
    let folder = directory.file("state/remotes")
    let file = "\(folder)/\(directoryEntries(folder)[0])"
    var status = stat()
    #expect(stat(file, &status) == 0 && status.st_mode & 0o7777 == 0o600)
    let text = try readFile(file)
    #expect(String(decoding: text, as: UTF8.self).contains("https://a.example"))
    // Cut short, as a disk that was full may leave it.
    try writeFile(file, Array(text.dropLast(2)))
    #expect(try !trust().isConfirmed(confirmed))
    try writeFile(file, text)
    chmod(file, 0o622)
    #expect(throws: VMCheckpointError.self) { try trust().isConfirmed(confirmed) }
    chmod(file, 0o600)
    #expect(try trust().isConfirmed(confirmed))
    chmod(folder, 0o777)
    #expect(throws: VMCheckpointError.self) { try trust().isConfirmed(confirmed) }
    chmod(folder, 0o700)
    unlink(file)
    symlink("/dev/null", file)
    #expect(throws: VMCheckpointError.self) { try trust().isConfirmed(confirmed) }
  }
}
