"""Web servers started from a command line: in a folder, asked over HTTP, ended as a service manager does it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ironloop

from tests.support.servers import accepts

if TYPE_CHECKING:
    from collections.abc import Iterator


def environment(**more: str) -> dict[str, str]:
    """The programs of this interpreter's environment are found first, and they find the package under test."""
    programs = os.path.dirname(sys.executable)
    package = os.path.dirname(os.path.dirname(ironloop.__file__))
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
        "PYTHONPATH": package,
        "PYTHONUNBUFFERED": "1",
        **more,
    }


class Server:
    """A process that serves on `port` of 127.0.0.1, and leads a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self._output = output

    @property
    def printed(self) -> str:
        """What it and its workers wrote, both outputs."""
        return self._output.read_text(errors="replace")

    def get(self, path: str = "/") -> str:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=50)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200, self.printed
            return answer.read().decode()

    def until(self, ready: str) -> None:
        """Wait until it has printed that."""
        while ready not in self.printed:
            assert self.process.poll() is None, self.printed
            time.sleep(0.01)

    def accepts(self) -> None:
        """Wait until it accepts connections."""
        while not accepts(self.port):
            assert self.process.poll() is None, self.printed
            time.sleep(0.01)

    def refuses(self) -> None:
        """Wait until it accepts none any more."""
        while accepts(self.port):
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its end; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(50)


@contextlib.contextmanager
def serving(command: list[str], folder: Path, port: int, **variables: str) -> Iterator[Server]:
    """Start a server in `folder`, and wait until it listens; nothing of it is left after the block."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            # Where gunicorn puts a socket of its own; else it is the user's home.
            env=environment(XDG_RUNTIME_DIR=str(folder), **variables),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, output)
    try:
        server.accepts()
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
