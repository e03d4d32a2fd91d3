import Foundation
import VMCheckpointTestSupport

/// RAM of two regions told by a number for each page: 0 is a zero page, and equal numbers are equal
/// pages. What queries and maps say of it can be counted by hand.
struct LabelledRAM {
  /// The regions `low`, from GPA 0, and `high`.
  var low: [Int]
  var high: [Int]

  static let highFirstPFN = 0x10000

  var bytes: [UInt8] { (low + high).flatMap(Self.page) }

  /// For `save`.
  var regionOptions: [String] {
    [
      "--region", "gpa=0,size=\(low.count * 4096),name=low",
      "--region", "gpa=\(Self.highFirstPFN * 4096),size=\(high.count * 4096),name=high",
    ]
  }

  /// The numbers by PFN.
  var labels: [Int: Int] {
    var result: [Int: Int] = [:]
    for (index, label) in low.enumerated() { result[index] = label }
    for (index, label) in high.enumerated() { result[Self.highFirstPFN + index] = label }
    return result
  }

  /// The numbers that are not 0 by PFN, of one region.
  func stored(_ region: String) -> [Int: Int] {
    labels.filter { $0.value != 0 && ($0.key >= Self.highFirstPFN) == (region == "high") }
  }

  static func page(_ label: Int) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: 4096)
    for index in stride(from: 0, to: label == 0 ? 0 : 4096, by: 64) {
      page[index] = UInt8(truncatingIfNeeded: label)
      page[index + 1] = UInt8(truncatingIfNeeded: label >> 8)
      page[index + 2] = 0x5A
    }
    return page
  }
}

extension Workbench {
  /// Saves `ram` as a snapshot of a VM.
  func save(_ name: String, vm: String, _ ram: LabelledRAM, overlays: String? = nil) throws {
    let path = try write("\(UUID().uuidString).ram", ram.bytes)
    defer { unlink(path) }
    var arguments = ["save", path, "--name", name, "--vm", vm] + ram.regionOptions
    if let overlays { arguments += ["--overlays", try write("overlays.json", overlays)] }
    let outcome = try tool.start(arguments).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
  }

  /// The rows that `vmckpt query ARGUMENTS` gives, each with its values in the order of the columns;
  /// NULL is `-`.
  func answer(_ arguments: String...) throws -> [[String]] {
    let outcome = try tool.start(["query"] + arguments + ["--json"]).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    let object = try outcome.jsonObject()
    guard let columns = object["columns"] as? [String],
      let rows = object["rows"] as? [[String: Any]]
    else { throw TestSetupError("no rows: \(outcome)") }
    return rows.map { row in
      columns.map { column in
        switch row[column] {
        case let number as Int: "\(number)"
        case let text as String: text
        default: "-"
        }
      }
    }
  }
}
