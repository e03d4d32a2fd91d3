import Testing
import VMCheckpointTestSupport

/// What the tests of live guests count by.
@Suite struct CountingGuestTests {
  @Test func aLineThatACaptureCutsIsCountedOnceOnTheTwoConsoles() throws {
    let nonce = String(repeating: "0f", count: 16)
    let text = (0..<4).map { "COUNT \($0) \(nonce)\r\n" }.joined()
    let all = CountingGuest.counts(consoleText: text)
    #expect(all.map(\.number) == [0, 1, 2, 3])
    let bytes = Array(text.utf8)
    let line = bytes.count / 4
    for cut in line..<(bytes.count - line) {
      let before = CountingGuest.counts(consoleText: String(decoding: bytes[..<cut], as: UTF8.self))
      let after = CountingGuest.counts(consoleText: String(decoding: bytes[cut...], as: UTF8.self))
      #expect(before + after == all, "cut at \(cut)")
    }
  }

  @Test func aLineOfAnotherGuestIsNotTakenForTheEndOfACutOne() {
    let nonce = String(repeating: "0f", count: 16)
    let other = CountingGuest.counts(consoleText: "T 6 \(nonce)\r\nCOUNT 8 \(nonce)\r\nCOUNT 9 ")
    #expect(other.map(\.number) == [8])
  }
}
