import Testing
import VMCheckpointCommands

@Suite struct PrintableTextTests {
  @Test(arguments: [
    ("plain", "plain"),
    ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
    (#"C:\new "x""#, #"C:\new "x""#),
    ("a\nb\r\tc", #"a\nb\r\tc"#),
    ("\u{1B}[2J\u{7}\u{0}", #"\u{1B}[2J\u{07}\0"#),
    ("\u{9B}31m", #"\u{009B}31m"#),
    ("a\u{202E}b\u{2066}c\u{200F}", #"a\u{202E}b\u{2066}c\u{200F}"#),
    ("a\u{2028}b\u{2029}c\u{85}d", #"a\u{2028}b\u{2029}c\u{0085}d"#),
    ("\u{7F}", #"\u{7F}"#),
  ])
  func escapesWhatMovesTheCursor(text: String, expected: String) {
    #expect(printable(text) == expected)
  }
}
