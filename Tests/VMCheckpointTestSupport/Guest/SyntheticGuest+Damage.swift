/// A made-up guest's memory as a copy without a pause, or somebody who means ill, leaves it.
extension SyntheticGuest {
  /// The virtual address of a process's first thread.
  package func task(_ pid: Int) -> UInt64 {
    // The first task is in the image; the others follow each other in the list.
    var node = Self.imageStart + 0x2000 + offset("task_struct.tasks")
    for _ in 0..<pid { node = word(Self.place(node)) }
    return node - offset("task_struct.tasks")
  }

  /// Where a member of the structure at a virtual address is in RAM.
  package func place(_ object: UInt64, _ members: String...) -> UInt64 {
    Self.place(object) + members.reduce(0) { $0 + offset($1) }
  }

  /// The address that a member of a structure holds.
  package func pointer(_ object: UInt64, _ member: String) -> UInt64 {
    word(place(object, member))
  }

  package func offset(_ member: String) -> UInt64 { UInt64(types[member]!) }

  /// Process 1's link to the next one leads back to itself; from the list's end on all are found.
  package mutating func tearList() {
    put(place(task(1), "task_struct.tasks"), littleEndian(task(1) + offset("task_struct.tasks")))
  }

  /// As ``tearList()``, and the list's end leads nowhere: processes 2 and 3 are lost.
  package mutating func tearListTwice() {
    tearList()
    put(place(task(0), "task_struct.tasks") + 8, littleEndian(UInt64(8)))
  }
}
