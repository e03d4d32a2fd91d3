import Foundation
import Glibc

/// What a benchmark cannot do is an error of its own.
struct BenchError: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) { self.description = description }
}

/// Seconds of processor time that this thread has used: other programs do not count.
func threadSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Runs `body` and returns the processor time that it took.
func measure(_ body: () throws -> Void) rethrows -> Double {
  let start = threadSeconds()
  try body()
  return threadSeconds() - start
}

func median(_ values: [Double]) -> Double {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return .nan }
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// `value` with `digits` digits after the point.
func decimal(_ value: Double, _ digits: Int = 2) -> String {
  String(format: "%.\(digits)f", value)
}

/// Keeps the compiler from leaving out work whose result nobody needs.
@inline(never)
func keep<Value>(_ value: Value) {}

/// A Markdown table.
func markdownTable(_ header: [String], _ rows: [[String]]) -> String {
  let lines =
    [header, header.map { _ in "---" }].map { "| " + $0.joined(separator: " | ") + " |" }
    + rows.map { "| " + $0.joined(separator: " | ") + " |" }
  return lines.joined(separator: "\n")
}

func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
  encoder.keyEncodingStrategy = .convertToSnakeCase
  print(String(decoding: try encoder.encode(value), as: UTF8.self))
}
