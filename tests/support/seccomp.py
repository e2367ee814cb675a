"""System call filters for processes that tests start: seccomp(2), with a program for the kernel's BPF made by hand.

Used as a script, it installs a filter and then runs the rest of its command line:

    python seccomp.py kill:425 kill:426 refuse:441=1 -- python -c ...

`kill` ends the process with SIGSYS at one of these calls, `refuse` makes them fail with an errno.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
# Codes of linux/bpf_common.h: load the word at an offset of struct seccomp_data, jump if equal, return.
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06

# Numbers since Linux 5.1 are the same on every architecture: asm-generic/unistd.h.
IO_URING = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
# Newer than the default profiles of container runtimes that are still around, which answer EPERM, or ENOSYS.
NEWER = {"pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438, "epoll_pwait2": 441}
# x86-64 calls that the default profile of Docker and containerd (Kubernetes' RuntimeDefault) does not allow without
# capabilities: docs.docker.com/engine/security/seccomp.
FORBIDDEN_IN_CONTAINERS = {
    "ptrace": 101, "personality": 135, "ustat": 136, "sysfs": 139, "pivot_root": 155, "_sysctl": 156, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "iopl": 172,
    "ioperm": 173, "create_module": 174, "init_module": 175, "delete_module": 176, "get_kernel_syms": 177,
    "query_module": 178, "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227,
    "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "kexec_load": 246, "add_key": 248, "request_key": 249,
    "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
    "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
    "bpf": 321, "userfaultfd": 323,
}  # fmt: skip


def program(rules: list[tuple[int, int]]) -> bytes:
    """Instructions that answer each number of a system call with its action, and every other call with ALLOW."""
    code = [struct.pack("HBBI", LOAD, 0, 0, 0)]
    for number, action in rules:
        code.append(struct.pack("HBBI", JUMP_IF_EQUAL, 0, 1, number))
        code.append(struct.pack("HBBI", RETURN, 0, 0, action))
    code.append(struct.pack("HBBI", RETURN, 0, 0, ALLOW))
    return b"".join(code)


def install(rules: list[tuple[int, int]]) -> None:
    """Filter the calls of this process, of its threads to come and of its children, for good."""
    code = program(rules)
    memory = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many instructions, and where they are.
    filter_ = struct.pack("HP", len(code) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0)):
        option, *rest = (ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments)
        if libc.prctl(option, *rest) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def command(argv: list[str], kill: Iterable[int] = (), refuse: dict[int, int] | None = None) -> list[str]:
    """The command line that runs `argv` behind a filter; `refuse` is {number: errno}."""
    rules = [f"kill:{number}" for number in kill]
    rules += [f"refuse:{number}={errno}" for number, errno in (refuse or {}).items()]
    return [sys.executable, __file__, *rules, "--", *argv]


def main() -> None:
    end = sys.argv.index("--")
    rules = []
    for rule in sys.argv[1:end]:
        kind, _, what = rule.partition(":")
        number, _, errno = what.partition("=")
        rules.append((int(number), KILL_PROCESS if kind == "kill" else ERRNO | int(errno)))
    install(rules)
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])


if __name__ == "__main__":
    main()
