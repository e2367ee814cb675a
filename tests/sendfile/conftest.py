"""Two connected sockets, and the file in two forms: one for the kernel, one that has to be read."""

from __future__ import annotations

import io
import socket
import sys

import pytest

from tests.support.sendfile import BUFFER, DATA, BySocket, ByTransport, skip_where_blocks_are_overwritten


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
    """For tests in which more than a block of the file waits in the transport."""
    skip_where_blocks_are_overwritten(loop_name, sys.version_info, file)
    return file
