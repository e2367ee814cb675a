"""Programs that run beside the loop: found, started on the loop under test, watched by what they print, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import socket
from asyncio.subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: Debian has servers where an ordinary user's PATH does not lead, and PostgreSQL's in a folder for each version.
FOLDERS = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"]


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, or let it fail if everything has to be there (IRONLOOP_REQUIRE_PEERS=1)."""
    if os.environ.get("IRONLOOP_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def missing(what: str) -> NoReturn:
    skip_or_fail(f"{what} is missing")


def program(name: str, *folders: str | Path) -> str:
    """The path of a program that this test cannot do without."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *FOLDERS, *map(str, folders)]))
    if found is None:
        missing(name)
    return found


def package(name: str) -> Any:
    """A package that this test cannot do without."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(name)


def reserved_port() -> int:
    """A port of 127.0.0.1 for a program that has to be told one.

    A connection that it had is in TIME_WAIT, so that the kernel gives it to nobody who asks for any port, while whoever
    asks for this one with SO_REUSEADDR, as servers do, gets it.
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.close()  # the end that closes first is the one that waits
        client.recv(1)
        return int(listener.getsockname()[1])


class Running:
    """A program that runs; its two outputs are one, of which all is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = b""
        self._read = 0

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    async def says(self, text: str) -> str:
        """Wait until it prints that, after what was waited for before; all that came up to its end."""
        assert self.process.stdout is not None
        while (end := self.output.find(text.encode(), self._read)) < 0:
            piece = await self.process.stdout.read(1 << 16)
            if not piece:
                raise AssertionError(f"it ended without saying {text!r}:\n{self.printed}")
            self.output += piece
        start, self._read = self._read, end + len(text)
        return self.output[start : self._read].decode(errors="replace")

    async def ended(self) -> int:
        """Wait until it ends; its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.output += await self.process.stdout.read()
        self.process.stdin.close()
        return await self.process.wait()

    @property
    def printed(self) -> str:
        return self.output.decode(errors="replace")


@contextlib.asynccontextmanager
async def running(*command: str, cwd: Path | None = None) -> AsyncIterator[Running]:
    """Start a program, and kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd=cwd)
    started = Running(process)
    try:
        yield started
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await started.ended()


async def output_of(*command: str, cwd: Path | None = None) -> tuple[bytes, str]:
    """(what a program wrote to its output, what it wrote to its standard error); it must succeed."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=cwd)
    output, errors = await process.communicate(b"")
    text = errors.decode(errors="replace")
    assert process.returncode == 0, f"{' '.join(command)}: exit status {process.returncode}\n{text}"
    return output, text
