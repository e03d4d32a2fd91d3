import Testing
import VMCheckpointCore
import VMCheckpointTestSupport

/// Type information of a kernel.
@Suite struct BTFTests {
  private func types(_ make: (inout BTFBuilder) -> Void) throws -> BTF {
    var builder = BTFBuilder()
    make(&builder)
    return try BTF(builder.bytes(minimumTypesByteCount: 0))
  }

  @Test func membersOfUnnamedStructuresAndBitFieldsAreFound() throws {
    let types = try types { builder in
      let u64 = builder.integer("u64", 8)
      let u32 = builder.integer("u32", 4)
      let inner = builder.structure("", [("first", u32), ("second", u32)])
      let choice = builder.structure("", [("", inner), ("whole", u64)], isUnion: true)
      _ = builder.structure("outer", [("before", u64), ("", choice), ("after", u32)])
      _ = builder.structure(
        "flags",
        [("plain", u32)],
        bitFields: [("low", u32, 32, 3), ("high", u32, 43, 5)],
        byteCount: 8
      )
    }
    #expect(types.field("outer", "second")?.offset == 12)
    #expect(types.field("outer", "whole")?.byteCount == 8)
    #expect(types.field("outer", "after")?.offset == 16)
    #expect(types.field("outer", "missing") == nil)
    #expect(types.field("flags", "plain")?.bitCount == 0)
    #expect(types.field("flags", "low")?.bitCount == 3)
    let high = try #require(types.field("flags", "high"))
    #expect(high.offset == 5 && high.bitOffset == 3 && high.bitCount == 5)

    var rows = BTFMemberIterator(types)
    var members: [String] = []
    while let row = rows.next() { members.append("\(row.structure).\(row.member ?? "")") }
    #expect(
      members == [
        "outer.", "outer.before", "outer.first", "outer.second", "outer.whole", "outer.after",
        "flags.", "flags.plain", "flags.low", "flags.high",
      ]
    )
  }

  @Test func constantsAndSizesAreRead() throws {
    let types = try types { builder in
      let u16 = builder.integer("u16", 2)
      let names = builder.array(of: u16, 7)
      _ = builder.structure("object", [("names", names)])
      builder.enumeration("kinds", [("ONE", 1), ("LAST", 0xffff_ffff)])
    }
    #expect(types.byteCount(of: "object") == 14)
    #expect(types.constant("ONE") == 1)
    #expect(types.constant("LAST") == -1)
    #expect(types.constant("TWO") == nil)
  }

  /// Lengths and kinds that lie must not lead out of the bytes.
  @Test func damagedTypesAreRefused() throws {
    var builder = BTFBuilder()
    let u64 = builder.integer("u64", 8)
    _ = builder.structure("task_struct", [("pid", u64)])
    let bytes = builder.bytes(minimumTypesByteCount: 0)
    for place in bytes.indices {
      for value in [UInt8(0), 1, 0x7f, 0x80, 0xff] {
        var damaged = bytes
        damaged[place] = value
        guard let types = try? BTF(damaged) else { continue }
        _ = types.field("task_struct", "pid")
        var rows = BTFMemberIterator(types)
        while rows.next() != nil {}
      }
    }
    for count in bytes.indices {
      #expect(throws: (any Error).self) { try BTF(Array(bytes[..<count])) }
    }
  }
}
