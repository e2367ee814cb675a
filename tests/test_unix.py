"""Unix sockets: paths, abstract names, stale files."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from tests.support.protocols import Echo, Recorder, close_all


@pytest.fixture(params=["str", "Path", "bytes", "abstract"])
def address(request, tmp_path):
    path = tmp_path / "socket"
    return {"str": str(path), "Path": path, "bytes": os.fsencode(path), "abstract": f"\0ironloop-{os.getpid()}"}[
        request.param
    ]


def test_echo_over_a_unix_socket(run, loop, address):
    async def main():
        server = await loop.create_unix_server(Echo, address)
        transport, protocol = await loop.create_unix_connection(Recorder, address)
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_UNIX
        assert transport.get_extra_info("peername") == sock.getpeername()
        assert transport.get_extra_info("sockname") == sock.getsockname() == ""
        await close_all(protocol, server)

    run(main)


def test_large_messages_and_half_close(run, loop, tmp_path):
    async def main():
        server = await loop.create_unix_server(Echo, tmp_path / "socket")
        transport, protocol = await loop.create_unix_connection(Recorder, tmp_path / "socket")
        data = bytes(range(256)) * 8000
        transport.write(data)
        assert await protocol.received(len(data)) == data
        transport.write_eof()
        await protocol.lost
        await close_all(server)

    run(main)


def test_a_stale_socket_file_is_replaced(run, loop, tmp_path):
    async def main():
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        server = await loop.create_unix_server(Echo, path)
        _, protocol = await loop.create_unix_connection(Recorder, path)
        await close_all(protocol, server)

    run(main)


def test_a_regular_file_is_not_replaced(run, loop, tmp_path):
    async def main():
        path = tmp_path / "file"
        path.write_text("precious")
        with pytest.raises(OSError, match="is already in use"):
            await loop.create_unix_server(Echo, path)
        assert path.read_text() == "precious"

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
@pytest.mark.parametrize("clean", [True, False])
def test_the_file_goes_with_the_server(run, loop, tmp_path, clean):
    async def main():
        path = tmp_path / "socket"
        server = await loop.create_unix_server(Echo, path, cleanup_socket=clean)
        await close_all(server)
        assert path.exists() is not clean

    run(main)


def test_nobody_there_is_an_error(run, loop, tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, tmp_path / "nobody")
        with pytest.raises(ValueError, match="no path and sock were specified"):
            await loop.create_unix_connection(Recorder)
        with socket.socket() as sock, pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
            await loop.create_unix_connection(Recorder, sock=sock)

    run(main)
