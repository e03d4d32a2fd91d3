/// The notes that QEMU writes for the CPUs of an x86 guest: for each its `CORE`, then for each its `QEMU`.
///
/// Source: QEMU `target/i386/arch_dump.c`. `CORE` is a process's `prstatus` with the CPU's number from 1 on in
/// the place of the process's, in the 32-bit form when CPU 0 is not in long mode. `QEMU` has all that a debugger
/// needs beside: segments, tables and control registers.
enum ELFProcessorNotes {
  /// Where in ``QEMUProcessor/general`` each register is.
  private enum Register: Int {
    case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
  }

  /// Where in ``QEMUProcessor/segments`` each register is.
  private enum Segment: Int {
    case es, cs, ss, ds, fs, gs
  }

  /// The machine and the notes of a guest's CPUs, in the stream's order.
  ///
  /// - Precondition: There is at least one.
  static func notes(_ processors: [QEMUProcessor]) -> ELFNotes {
    let isLong = processors[0].isInLongMode
    var notes = ELFNotes(machine: isLong ? .x86_64 : .i386, bytes: [], alignment: 4)
    for processor in processors {
      let contents = isLong ? longStatus(processor) : shortStatus(processor)
      notes.append(ELFNote(name: Array("CORE".utf8), type: 1, contents: contents[...]))
    }
    for processor in processors {
      notes.append(ELFNote(name: Array("QEMU".utf8), type: 0, contents: state(processor)[...]))
    }
    return notes
  }

  /// `x86_64_elf_prstatus`: 336 bytes.
  private static func longStatus(_ processor: QEMUProcessor) -> [UInt8] {
    func general(_ register: Register) -> UInt64 { processor.general[register.rawValue] }
    func selector(_ segment: Segment) -> UInt64 {
      UInt64(processor.segments[segment.rawValue].selector)
    }
    func base(_ segment: Segment) -> UInt64 { processor.segments[segment.rawValue].base }
    var bytes = [UInt8](repeating: 0, count: 32)
    bytes.appendLittleEndian(processor.index &+ 1)
    bytes += [UInt8](repeating: 0, count: 76)
    let order: [Register] = [
      .r15, .r14, .r13, .r12, .rbp, .rbx, .r11, .r10, .r9, .r8, .rax, .rcx, .rdx, .rsi, .rdi,
    ]
    for register in order { bytes.appendLittleEndian(general(register)) }
    // The second one is orig_rax, of which QEMU knows nothing.
    for value in [
      0, processor.instructionPointer, selector(.cs), processor.flags, general(.rsp),
      selector(.ss), base(.fs), base(.gs), selector(.ds), selector(.es), selector(.fs),
      selector(.gs),
    ] { bytes.appendLittleEndian(value) }
    return bytes + [UInt8](repeating: 0, count: 8)
  }

  /// `x86_elf_prstatus`: 144 bytes.
  private static func shortStatus(_ processor: QEMUProcessor) -> [UInt8] {
    func general(_ register: Register) -> UInt32 {
      UInt32(truncatingIfNeeded: processor.general[register.rawValue])
    }
    func selector(_ segment: Segment) -> UInt32 {
      processor.segments[segment.rawValue].selector & 0xffff
    }
    var bytes = [UInt8](repeating: 0, count: 24)
    bytes.appendLittleEndian(processor.index &+ 1)
    bytes += [UInt8](repeating: 0, count: 44)
    for value in [
      general(.rbx), general(.rcx), general(.rdx), general(.rsi), general(.rdi), general(.rbp),
      general(.rax), selector(.ds), selector(.es), selector(.fs), selector(.gs), 0,
      UInt32(truncatingIfNeeded: processor.instructionPointer), selector(.cs),
      UInt32(truncatingIfNeeded: processor.flags), general(.rsp), selector(.ss),
    ] { bytes.appendLittleEndian(value) }
    return bytes + [UInt8](repeating: 0, count: 4)
  }

  /// `QEMUCPUState`: 440 bytes.
  private static func state(_ processor: QEMUProcessor) -> [UInt8] {
    let byteCount: UInt32 = 440
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(UInt32(1))
    bytes.appendLittleEndian(byteCount)
    let order: [Register] = [
      .rax, .rbx, .rcx, .rdx, .rsi, .rdi, .rsp, .rbp, .r8, .r9, .r10, .r11, .r12, .r13, .r14, .r15,
    ]
    for register in order { bytes.appendLittleEndian(processor.general[register.rawValue]) }
    bytes.appendLittleEndian(processor.instructionPointer)
    bytes.appendLittleEndian(processor.flags)
    let segments = [Segment.cs, .ds, .es, .fs, .gs, .ss].map { processor.segments[$0.rawValue] }
    for segment in segments + [processor.ldt, processor.tr, processor.gdt, processor.idt] {
      bytes.appendLittleEndian(segment.selector)
      bytes.appendLittleEndian(segment.limit)
      bytes.appendLittleEndian(segment.flags)
      bytes.appendLittleEndian(UInt32(0))
      bytes.appendLittleEndian(segment.base)
    }
    for register in processor.control { bytes.appendLittleEndian(register) }
    bytes.appendLittleEndian(processor.kernelGSBase)
    precondition(bytes.count == Int(byteCount))
    return bytes
  }
}
