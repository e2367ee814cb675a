"""Two connected sockets, and the file in two forms: one for the kernel, one that has to be read."""

from __future__ import annotations

import io
import socket
import sys

import pytest

from tests.support.sendfile import DATA, BySocket, ByTransport

BUFFER = 1 << 17


@pytest.fixture(params=["tcp", "unix"])
def sockets(request):
    """(ours, the peer's)"""
    if request.param == "unix":
        ours, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            peer, _ = listener.accept()
    with ours, peer:
        for sock in (ours, peer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.setblocking(False)
        yield ours, peer


@pytest.fixture(params=[ByTransport, BySocket])
def sender(request, sockets):
    """One of the two calls, for our socket."""
    return request.param(sockets[0])


@pytest.fixture
def opened(tmp_path):
    """The file for the kernel."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as file:
        yield file


@pytest.fixture(params=["descriptor", "fallback"])
def file(request):
    return request.getfixturevalue("opened") if request.param == "descriptor" else io.BytesIO(DATA)


@pytest.fixture
def large_file(loop_name, file):
    """For tests in which more than a block of the file waits in the transport, as the peer does not read."""
    if loop_name == "asyncio" and sys.version_info >= (3, 12) and isinstance(file, io.BytesIO):
        pytest.skip(
            "CPython's fallback overwrites blocks that its transport, which copies none since 3.12, has to send"
        )
    return file
