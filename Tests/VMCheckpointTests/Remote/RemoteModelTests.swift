import Testing

/// The rules by which pushes and collections keep out of each other's way, in all orders of events.
@Suite struct RemoteModelTests {
  @Test("no order of events loses a pack that a snapshot needs")
  func protocolIsSafe() {
    let (stateCount, stepsToLoss) = RemoteModel().explore()
    #expect(stepsToLoss == nil)
    #expect(stateCount > 10_000)
  }

  @Test("without any one of its rules something is lost", arguments: RemoteModel.Rule.allCases)
  func eachRuleIsNeeded(rule: RemoteModel.Rule) {
    #expect(RemoteModel(without: rule).explore().stepsToLoss != nil)
  }
}
