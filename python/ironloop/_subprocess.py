"""Child processes: started by `subprocess.Popen`, their exit seen by the reactor.

`Popen` has every option of the running Python (vfork, `preexec_fn`, `process_group`, ...), and asyncio's own
`BaseSubprocessTransport` the order in which a protocol is told of data, lost pipes and the exit. What is ours is
how the exit is noticed: a pidfd (pidfd_open(2), Linux 5.3) in the loop's reactor. No SIGCHLD and no child watcher, so
it works in every thread, and beside whatever the program does with SIGCHLD. Where a pidfd cannot be had, or
`IRONLOOP_PIDFD=0` is set, a thread waits.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import select
import subprocess
import sys
import threading
from asyncio import unix_events
from asyncio.log import logger
from asyncio.subprocess import SubprocessStreamProtocol

from ._native import adopt_reader
from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ._loop import Loop

_thread_numbers = itertools.count()

# A transport that is collected kills its child. Before 3.12 a thread of asyncio's waits for each child and keeps the
# transport, so a child that nobody has waited for outlives the loop, and the program.
OUTLIVES = sys.version_info < (3, 12)
# The transports that are kept for that, and the process that has started each child.
_running: dict[ProcessTransport, int] = {}


class Popen(subprocess.Popen[bytes]):
    """A `subprocess.Popen` that closes nothing if there is nothing to close."""

    def _close_pipe_fds(self, *fds: int) -> None:
        # A child with the parent's own standard streams: half of what `Popen` does besides starting it.
        if max(fds) == -1:
            self._closed_child_pipe_fds = True
        else:
            super()._close_pipe_fds(*fds)  # type: ignore[misc]


class ProcessTransport(unix_events._UnixSubprocessTransport):  # type: ignore[name-defined, misc, unused-ignore]
    """A running child, its pipes and its protocol."""

    _loop: Loop
    _pid: int
    _proc: subprocess.Popen[bytes]

    def _start(self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **kwargs: Any) -> None:
        # Before 3.12 asyncio's own gives the child a socket for its standard input, which cannot be opened again
        # as /dev/stdin.
        start = Popen if subprocess.Popen is Popen.__base__ else subprocess.Popen  # Test suites replace it.
        self._proc = start(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    def watch(self) -> None:
        """Have `_process_exited` called when the child exits. Called once, by the loop's thread."""
        loop = self._loop
        pidfd = _open_pidfd(self._pid) if loop._may_use_pidfds else None
        if pidfd is None:
            self._watch_by_thread()
            return
        loop._pidfds[pidfd] = self
        loop._add_reader(pidfd, self._exited, pidfd)
        if OUTLIVES:
            _running[self] = os.getpid()

    def adopt_readers(self) -> None:
        """Have what the child writes be read natively, for `asyncio.create_subprocess_exec`. Called when it runs."""
        if type(self._protocol) is SubprocessStreamProtocol:
            for reader in (self._protocol.stdout, self._protocol.stderr):
                if reader is not None:
                    adopt_reader(self._loop, reader)

    def _exited(self, pidfd: int) -> None:
        loop = self._loop
        loop._remove_reader(pidfd)
        loop._pidfds.pop(pidfd, None)
        os.close(pidfd)
        _running.pop(self, None)
        if self._pipes:
            # In a turn of its own: what the child wrote before its exit, and is reported with it, comes first.
            loop.call_soon(self._reap)
        else:
            self._reap()

    def outlive(self) -> None:
        """The loop is closed, or the interpreter ends, and the child still runs: let it."""
        started_by = _running.pop(self, None)
        if started_by != os.getpid():  # a forked child's sibling; None: see OUTLIVES
            return
        try:
            self._watch_by_thread()
        except RuntimeError:
            _running[self] = started_by  # No thread can be had now, perhaps when the interpreter ends.

    def _watch_by_thread(self) -> None:
        name, args = f"ironloop-waitpid-{next(_thread_numbers)}", (self._loop, self._pid, self._proc)
        threading.Thread(target=self._wait_in_thread, args=args, name=name, daemon=True).start()

    def _reap(self) -> None:
        # Both at once: the number of a reaped child may be another's, and send_signal() must not reach that.
        self._process_exited(_reap(self._pid, self._proc))

    def _wait_in_thread(self, loop: Loop, pid: int, process: subprocess.Popen[bytes]) -> None:
        _wait_for_exit(pid)
        try:
            loop.call_soon_threadsafe(self._reap)
        except RuntimeError:
            _reap(pid, process)
            logger.warning("Loop %r that handles pid %r is closed", loop, pid)


@atexit.register
def _let_them_outlive() -> None:
    for transport in list(_running):
        transport.outlive()


def _open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the child exits; None: the system has none to give."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # An old kernel (ENOSYS), a seccomp filter (EPERM), no descriptors left (EMFILE).
        return None


def _wait_for_exit(pid: int) -> None:
    """Block until a child has exited, and leave it to be reaped by the loop's thread."""
    if sys.platform == "darwin" and sys.version_info < (3, 13):
        # No waitid() there. ProcessLookupError: it has exited already.
        exited = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        with contextlib.closing(select.kqueue()) as queue, contextlib.suppress(ProcessLookupError):
            queue.control([exited], 1)
    else:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _reap(pid: int, process: subprocess.Popen[bytes]) -> int:
    """Reap a child that has exited; its return code as `Popen` gives it."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        # Popen.poll() or wait() was first.
        if process.returncode is not None:
            return process.returncode
        logger.warning("child process pid %d exit status already read: will report returncode 255", pid)
        return 255
    return os.waitstatus_to_exitcode(status)


__all__ = ["ProcessTransport"]
