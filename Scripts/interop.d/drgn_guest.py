"""What drgn finds in an image: runs in the environment that has drgn. Prints JSON.

Usage: drgn_guest.py IMAGE VMLINUX
"""

import json
import sys

import drgn
from drgn.helpers.linux import cpu_curr, for_each_online_cpu, for_each_task, get_dmesg

program = drgn.Program()
program.set_core_dump(sys.argv[1])
program.load_debug_info([sys.argv[2]], main=True)
stacks = {}
for cpu in for_each_online_cpu(program):
    trace = program.stack_trace(cpu_curr(program, cpu))
    stacks[cpu] = [frame.name for frame in trace]
tasks = [
    (task.pid.value_(), task.comm.string_().decode()) for task in for_each_task(program)
]
json.dump({"tasks": tasks, "stacks": stacks, "log": get_dmesg(program).decode()}, sys.stdout)
