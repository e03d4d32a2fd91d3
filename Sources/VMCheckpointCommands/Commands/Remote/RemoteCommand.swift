import ArgumentParser

/// `vmckpt remote`.
struct RemoteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remote",
    abstract: "Make, look into and look after remotes: stores of snapshots for many hosts.",
    usage: "vmckpt remote <subcommand> [<options>]",
    discussion: """
      A remote is a prefix of a bucket in an S3-compatible object store, or a folder. Hosts push \
      snapshots there and pull them; each distinct page is there once. All who may use it are \
      one domain of trust: who shares pages can find out what others have.

      Credentials come from the environment, from ~/.aws/credentials, or from a file that only \
      its owner may read. A store has the place of its remotes, and never credentials.

      EXAMPLES:
        vmckpt remote init s3://fleet/vms --endpoint https://objects.example.com
        vmckpt push web/before-upgrade
        vmckpt remote show
        vmckpt remote gc
      """,
    subcommands: [
      RemoteProbeCommand.self, RemoteInitCommand.self, RemoteAddCommand.self,
      RemoteListCommand.self,
      RemoteForgetCommand.self, RemoteShowCommand.self, RemoteFetchCommand.self,
      RemoteStatsCommand.self, RemoteCheckCommand.self, RemoteDeleteCommand.self,
      RemotePruneCommand.self, RemoteGcCommand.self, RemoteAdoptCommand.self,
    ]
  )
}
