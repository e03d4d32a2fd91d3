/// The guest: x86-64 machine code that uses its overlays as an operating system would, and checks
/// what it gets.
///
/// It begins at ``GuestMemoryMap/code`` in 64-bit mode, with memory mapped one to one, and
///
/// 1. fills both pages that it is going to enable: what lies beneath,
/// 2. writes its guest OS ID, enables the hypercall page and the reference TSC page
///    (TLFS 3.13 and 12.7.1), which are one page where the VMM says so,
/// 3. asks what to do, does it, uses what is enabled, reports, and asks again, for ever.
///
/// It has no interrupts, no exception handlers and no operating system.
///
///     register   at boot                     from then on
///     rdi, rsi   GPA of the hypercall and    -
///                the reference TSC page
///     rbp, rbx   -                           those two
///     r8, r9     -                           what lies beneath the TSC and hypercall page
///     r12        0                           what is enabled, as the report has it
///     r13        0                           the latest reference time
///     r14        GPA of the report           the same
///     r15        0                           rounds so far
enum GuestProgram {
  /// Where the guest reads one byte that says what to do: a ``Command``.
  static let commandPort: UInt16 = 0xf0

  /// Where the guest writes its ``GuestReport``.
  static let reportPort: UInt16 = 0xf4

  /// What the VMM asks the guest to do. For each command the guest calls its hypercall page, reads
  /// its clock, looks at the pages that lie bare, and reports.
  enum Command: UInt8 {
    /// That alone.
    case use = 0
    /// Disable the hypercall page first.
    case disableHypercall = 1
    /// Disable the reference TSC page first.
    case disableReferenceTSC = 2
  }

  /// The bytes of ``listing``.
  static let code: [UInt8] = listing.split(separator: "\n").flatMap { line in
    line.prefix(byteColumnCount).split(separator: " ").map { UInt8($0, radix: 16)! }
  }

  /// How much of a line of ``listing`` is bytes.
  private static let byteColumnCount = 30

  /// Bytes, and the assembly language that they stand for, which a test assembles to compare.
  static let listing = """
                                   boot:
    48 89 fd                         mov rbp, rdi             # the page for hypercalls
    48 89 f3                         mov rbx, rsi             # the page for the clock
                                                              # beneath the clock: "kcitkcit"
    49 b8 6b 63 69 74 6b 63 69 74    movabs r8, 0x7469636b7469636b
                                                              # beneath the hypercall page:
                                                              # mov eax, 0xbad; ret; nop; nop
    49 b9 b8 ad 0b 00 00 c3 90 90    movabs r9, 0x9090c300000badb8
    48 89 df                         mov rdi, rbx
    4c 89 c0                         mov rax, r8
    b9 00 02 00 00                   mov ecx, 512
    f3 48 ab                         rep stosq                # fill the clock's page
    48 89 ef                         mov rdi, rbp
    4c 89 c8                         mov rax, r9
    b9 00 02 00 00                   mov ecx, 512
    f3 48 ab                         rep stosq                # then the other; it may be the same
    b9 00 00 00 40                   mov ecx, 0x40000000      # HV_X64_MSR_GUEST_OS_ID
    b8 00 00 00 01                   mov eax, 0x01000000      # as Linux 6.1 writes it
    ba 06 00 00 81                   mov edx, 0x81000006
    0f 30                            wrmsr
    b9 01 00 00 40                   mov ecx, 0x40000001      # HV_X64_MSR_HYPERCALL
    89 ef                            mov edi, ebp
    e8 2d 01 00 00                   call enable
    b9 21 00 00 40                   mov ecx, 0x40000021      # HV_X64_MSR_REFERENCE_TSC
    89 df                            mov edi, ebx
    e8 21 01 00 00                   call enable
    41 bc 03 00 00 00                mov r12d, 3              # enabled: 1 hypercall, 2 clock
                                   next:
    e4 f0                            in al, 0xf0              # what shall I do?
    3c 01                            cmp al, 1
    0f 84 f1 00 00 00                je disable_hypercall
    3c 02                            cmp al, 2
    0f 84 f4 00 00 00                je disable_clock
                                   use:
    49 ff c7                         inc r15                  # rounds
    45 31 d2                         xor r10d, r10d           # problems of this round
    48 c7 c0 ff ff ff ff             mov rax, -1              # no result of a hypercall
    41 f6 c4 01                      test r12b, 1
    74 0e                            jz called
    31 c9                            xor ecx, ecx             # call code 0, which does not exist
    ff d5                            call rbp
    48 83 f8 02                      cmp rax, 2               # HV_STATUS_INVALID_HYPERCALL_CODE
    74 04                            je called
    41 83 ca 01                      or r10d, 1               # problem 1: another result
                                   called:
    49 89 46 18                      mov [r14 + 24], rax
    41 f6 c4 02                      test r12b, 2             # the clock is visible if enabled
    74 40                            jz timed
    41 f6 c4 01                      test r12b, 1             # and nothing lies over it
    74 05                            jz read_clock
    48 39 dd                         cmp rbp, rbx
    74 35                            je timed
                                   read_clock:
    48 8b 0b                         mov rcx, [rbx]           # sequence, and 32 reserved bits
    89 c8                            mov eax, ecx
    48 39 c8                         cmp rax, rcx
    75 27                            jne bad_clock            # reserved bits are 0
    85 c0                            test eax, eax
    74 23                            jz bad_clock             # sequence 0: not to be used
    0f ae e8                         lfence
    0f 31                            rdtsc
    48 c1 e2 20                      shl rdx, 32
    48 09 d0                         or rax, rdx
    48 f7 63 08                      mul qword ptr [rbx + 8]  # rdx = tsc * scale >> 64
    48 03 53 10                      add rdx, [rbx + 16]      # + offset
    48 39 0b                         cmp [rbx], rcx
    75 d9                            jne read_clock           # another sequence: read again
    4c 39 ea                         cmp rdx, r13
    7c 05                            jl bad_clock             # time never goes back
    49 89 d5                         mov r13, rdx
    eb 04                            jmp timed
                                   bad_clock:
    41 83 ca 02                      or r10d, 2               # problem 2: no clock, or a wrong one
                                   timed:
    41 f6 c4 01                      test r12b, 1             # is the hypercall page bare?
    75 1f                            jnz hypercall_checked
    48 39 dd                         cmp rbp, rbx
    75 06                            jne check_hypercall
    41 f6 c4 02                      test r12b, 2
    75 14                            jnz hypercall_checked
                                   check_hypercall:
    48 89 ef                         mov rdi, rbp
    4c 89 c8                         mov rax, r9
    b9 00 02 00 00                   mov ecx, 512
    f3 48 af                         repe scasq               # all of it as it was written?
    74 04                            je hypercall_checked
    41 83 ca 04                      or r10d, 4               # problem 4: not what lay beneath
                                   hypercall_checked:
    41 f6 c4 02                      test r12b, 2             # is the clock's page bare?
    75 19                            jnz report
    48 39 dd                         cmp rbp, rbx
    74 14                            je report
    48 89 df                         mov rdi, rbx
    4c 89 c0                         mov rax, r8
    b9 00 02 00 00                   mov ecx, 512
    f3 48 af                         repe scasq
    74 04                            je report
    41 83 ca 04                      or r10d, 4
                                   report:
    4d 89 3e                         mov [r14], r15           # round
    4d 89 66 08                      mov [r14 + 8], r12       # enabled
    4d 89 56 10                      mov [r14 + 16], r10      # problems
    48 8b 03                         mov rax, [rbx]
    49 89 46 20                      mov [r14 + 32], rax      # the clock's page begins so
    48 8b 43 08                      mov rax, [rbx + 8]
    49 89 46 28                      mov [r14 + 40], rax
    48 8b 43 10                      mov rax, [rbx + 16]
    49 89 46 30                      mov [r14 + 48], rax
    4d 89 6e 38                      mov [r14 + 56], r13      # reference time when last read
    4c 89 f6                         mov rsi, r14
    b9 10 00 00 00                   mov ecx, 16
    ba f4 00 00 00                   mov edx, 0xf4
    f3 6f                            rep outsd                # 64 bytes
    e9 05 ff ff ff                   jmp next
                                   disable_hypercall:
    41 80 e4 fe                      and r12b, 0xfe
    b9 01 00 00 40                   mov ecx, 0x40000001
    eb 09                            jmp disable
                                   disable_clock:
    41 80 e4 fd                      and r12b, 0xfd
    b9 21 00 00 40                   mov ecx, 0x40000021
                                   disable:
    0f 32                            rdmsr
    83 e0 fe                         and eax, 0xfffffffe      # the enable bit
    0f 30                            wrmsr
    e9 f7 fe ff ff                   jmp use
                                   enable:
    0f 32                            rdmsr
    25 fe 0f 00 00                   and eax, 0xffe           # bits 11:1 are to be preserved
    09 f8                            or eax, edi
    83 c8 01                         or eax, 1
    31 d2                            xor edx, edx
    0f 30                            wrmsr
    c3                               ret
    """
}
