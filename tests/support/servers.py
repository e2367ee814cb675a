"""Servers as they come from Debian or PyPI, each in a folder of its own, on a free port, ended whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, **how: Any) -> Iterator[Path]:
    """A server while the block runs, from when it accepts connections; its folder, which is also its working directory.

    It ends by SIGTERM, or by SIGKILL if it has not gone ten seconds later.
    """
    # Not in pytest's folders: a server may be another user, and a Unix socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="ironloop-server."))
    try:
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **how
            )
        try:
            while not accepts(port):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.01)
            yield folder
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
