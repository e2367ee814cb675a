"""Lets `python -m ironloop top` look at this process.

    ironloop.inspect.enable()        or IRONLOOP_INSPECT=1 in the environment

opens a Unix socket that only the same user (and root) can use, in `$XDG_RUNTIME_DIR/ironloop` or a folder of the user's
own in the temporary folder, as PID.sock. Nothing is opened unless asked for. A thread answers, so that a loop that is
blocked can be looked at, too. Whoever connects sends one line, {"interval": seconds}, and gets a line of JSON at
that interval until one side closes; see `snapshot` for what is in it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import platform
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _native
from ._tasks import describe_tasks

if TYPE_CHECKING:
    from ._loop import Loop

__all__ = ["disable", "enable", "snapshot", "socket_path"]

SHORTEST_INTERVAL = 0.05
CLIENTS = 8


def snapshot() -> dict[str, Any]:
    """What is told of this process: "pid", "time" (monotonic, seconds), versions, and "loops".

    Of each loop that is open: "id", "metrics" (the fields of `ironloop.metrics.Metrics`), "count" of its tasks and up
    to 500 "tasks".
    """
    return {
        "pid": os.getpid(),
        "time": time.monotonic(),
        "python": platform.python_version(),
        "ironloop": _native.__version__,
        "command": [sys.executable, *sys.argv],
        "loops": [_describe_loop(loop) for loop in sorted(_open_loops(), key=id)],
    }


def _open_loops() -> list[Loop]:
    from ._insight import loops

    return [loop for loop in tuple(loops) if not loop.is_closed()]


def _describe_loop(loop: Loop) -> dict[str, Any]:
    return {"id": id(loop), "metrics": loop.metrics().as_dict(), **describe_tasks(loop)}


def socket_path(pid: int) -> Path:
    """Where the process `pid` of this user listens once it is enabled."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime, "ironloop") if runtime else Path(tempfile.gettempdir(), f"ironloop-{os.getuid()}")
    return folder / f"{pid}.sock"


_lock = threading.Lock()
_server: _Server | None = None


def enable() -> Path:
    """Listen, if this process does not yet; returns the socket's path.

    OSError if the socket cannot be made; PermissionError if its folder belongs to somebody else or is open to others.
    """
    global _server
    with _lock:
        if _server is None:
            _server = _Server(socket_path(os.getpid()))
        return _server.path


def disable() -> None:
    """Close the socket and end all connections to it."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        server.close()


class _Server:
    """The listening socket, its thread, and a thread for each client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _make_private(path.parent)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Left by a process of the same number that did not end in order.
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))
            self._listener.listen()
        except BaseException:
            self._listener.close()
            raise
        self._clients: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        threading.Thread(target=self._accept, name="ironloop-inspect", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for client in tuple(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """In a forked child: the socket is the parent's."""
        self._listener.close()
        for client in tuple(self._clients):
            client.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if len(self._clients) < CLIENTS and _uid_of_peer(client) in (os.getuid(), 0):
                self._clients.add(client)
                threading.Thread(target=_serve, args=(client,), name="ironloop-inspect", daemon=True).start()
            else:
                client.close()


def _serve(client: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError), client:
        with client.makefile("rb") as lines:
            interval = max(float(json.loads(lines.readline(1000)).get("interval", 1.0)), SHORTEST_INTERVAL)
        while True:
            client.sendall(json.dumps(snapshot()).encode() + b"\n")
            time.sleep(interval)


def _make_private(folder: Path) -> None:
    """Make the folder, or make sure that nobody else can reach what is in it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not a folder that only this user can use")


def _uid_of_peer(client: socket.socket) -> int:
    if sys.platform == "darwin":
        # SOL_LOCAL, LOCAL_PEERCRED and struct xucred, which begins with a version and the uid; unix(4)
        return int(struct.unpack_from("2I", client.getsockopt(0, 1, 76))[1])
    # struct ucred: pid, uid, gid; unix(7)
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _in_child() -> None:
    global _server, _lock
    _lock = threading.Lock()
    server, _server = _server, None
    if server is not None:
        server.forget()


os.register_at_fork(after_in_child=_in_child)
atexit.register(disable)
