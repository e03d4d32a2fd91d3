import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct WorkingSetRecorderTests {
  @Test("runs that follow each other are one, and others stay in the order of their touches")
  func order() throws {
    let recorder = WorkingSetRecorder(durationSeconds: 60)
    #expect(recorder.remainingSeconds == 0, "before there is a VM to watch")
    recorder.note(9..<10)
    #expect(recorder.claim())
    #expect(!recorder.claim(), "a second VM is not watched")
    for run in [100..<116, 116..<120, 5..<6, 5..<6, 7..<7, 4..<5] as [Range<UInt64>] {
      recorder.note(run)
    }
    #expect(recorder.remainingSeconds > 0)
    #expect(recorder.finish(isEnding: false) == nil, "its time is not over")
  }

  @Test("a VM that ends within a second leaves nothing, and one that touches nothing neither")
  func tooShort() {
    // On a busy machine a second may pass in between.
    let isNothing = (0..<5).contains { _ in
      let recorder = WorkingSetRecorder(durationSeconds: 60)
      #expect(recorder.claim())
      recorder.note(1..<2)
      let found = recorder.finish(isEnding: true)
      #expect(recorder.remainingSeconds == 0)
      return found == nil
    }
    #expect(isNothing)
    let silent = WorkingSetRecorder(durationSeconds: 0.001)
    #expect(silent.claim())
    while silent.remainingSeconds > 0 { usleep(1000) }
    silent.note(1..<2)
    #expect(silent.finish(isEnding: false) == nil)
  }

  @Test("what was noted is given once, when the time is over")
  func once() throws {
    let recorder = WorkingSetRecorder(durationSeconds: 5)
    #expect(recorder.claim())
    recorder.note(3..<5)
    recorder.note(8..<9)
    recorder.note(9..<12)
    while recorder.remainingSeconds > 0 { usleep(1000) }
    recorder.note(20..<21)
    let found = try #require(recorder.finish(isEnding: false))
    #expect(found.durationSeconds == 5)
    #expect(found.runs == [3..<5, 8..<12])
    #expect(recorder.finish(isEnding: true) == nil)
  }
}
