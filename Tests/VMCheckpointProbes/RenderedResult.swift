import FoundationEssentials
package import VMCheckpoint
import VMCheckpointCommands
package import VMCheckpointFormats

/// How results of the library are printed: a seam for tests, which see no other part of a
/// command's rendering.
package struct RenderedResult: Hashable, Sendable {
  /// Without `--json`.
  package var text: String
  /// With `--json`.
  package var json: String
  /// For standard error, without `--json`.
  package var notice: String?
  package var exitCode: Int32

  private init(output: some CommandOutput) {
    text = output.text
    json = JSONText.document(output)
    notice = output.notice
    exitCode = output.exitCode
  }

  package init(_ result: SaveResult, warnings: [String] = []) {
    self.init(output: SaveOutput(result, warnings: warnings))
  }

  package init(_ result: RestoreResult, overlaysPath: String? = nil, warnings: [String] = []) {
    self.init(output: RestoreOutput(result, overlaysPath: overlaysPath, warnings: warnings))
  }

  package init(_ result: ConvertResult, overlaysPath: String? = nil, warnings: [String] = []) {
    self.init(output: ConvertOutput(result, overlaysPath: overlaysPath, warnings: warnings))
  }

  package init(_ result: ServeResult, warnings: [String] = []) {
    self.init(output: ServeOutput(result, warnings: warnings))
  }

  package init(_ result: QEMUPostcopyResult, warnings: [String] = []) {
    self.init(output: PostcopyOutput(result, warnings: warnings))
  }

  package init(_ result: MountResult, warnings: [String] = []) {
    self.init(output: MountOutput(result, warnings: warnings))
  }

  package init(unmounted directory: String, isLazy: Bool) {
    self.init(output: UnmountOutput(directory: directory, lazy: isLazy))
  }

  package init(dropped: Lease?, leases: [Lease]) {
    self.init(output: LeaseCommandOutput(dropped: dropped, leases: leases))
  }

  package init(_ snapshots: [SnapshotSummary], storePath: String, isFiltered: Bool = false) {
    self.init(output: ListOutput(snapshots, storePath: storePath, isFiltered: isFiltered))
  }

  /// Reads what `show --json` printed, and prints it again.
  package init(showing json: String) throws {
    self.init(output: try JSONDecoder().decode(ShowOutput.self, from: Data(json.utf8)))
  }

  package init(_ diff: SnapshotDiff, warnings: [String] = []) {
    self.init(output: DiffOutput(diff, warnings: warnings))
  }

  package init(tagged snapshot: SnapshotSummary) {
    self.init(output: TagOutput(snapshot: SummaryOutput(snapshot)))
  }

  package init(_ result: DeleteResult, warnings: [String] = []) {
    self.init(output: DeleteOutput(result, warnings: warnings))
  }

  package init(_ result: PruneResult, warnings: [String] = []) {
    self.init(output: PruneOutput(result, warnings: warnings))
  }

  package init(_ result: CollectResult, warnings: [String] = []) {
    self.init(output: GcOutput(collected: CollectOutput(result), warnings: warnings))
  }

  package init(_ result: OptimizeResult, warnings: [String] = []) {
    self.init(output: OptimizeOutput(result, warnings: warnings))
  }

  package init(_ report: VerifyReport, warnings: [String] = []) {
    self.init(output: VerifyOutput(report, warnings: warnings))
  }

  package init(_ statistics: StoreStatistics) {
    self.init(output: StatsOutput(statistics))
  }
}
