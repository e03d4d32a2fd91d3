import Testing

/// The rules by which pushes and collections keep out of each other's way, in all orders of events.
@Suite struct RemoteModelTests {
  @Test("no order of events of two pushes and two collectors loses a pack that a snapshot needs")
  func protocolIsSafe() {
    let (stateCount, stepsToLoss) = RemoteModel(.twoPushes).explore()
    #expect(stepsToLoss == nil)
    #expect(stateCount > 500_000)
  }

  @Test("no order of events loses a pack while lists of condemned packs are merged")
  func mergingIsSafe() {
    let (stateCount, stepsToLoss) = RemoteModel(.merging).explore()
    #expect(stepsToLoss == nil)
    #expect(stateCount > 500_000)
  }

  @Test("without any one of its rules something is lost", arguments: RemoteModel.Rule.allCases)
  func eachRuleIsNeeded(rule: RemoteModel.Rule) {
    #expect(RemoteModel(.merging, without: rule).explore().stepsToLoss != nil)
  }
}
