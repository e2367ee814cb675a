"""Unix sockets: names of every kind, stale files, what both ends say of each other, refusals."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest

from tests.support.protocols import Echo, Recorder, close_all

NEW_IN_3_13 = pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "socket"


@pytest.fixture(params=["str", "Path", "bytes", "abstract", "abstract bytes"])
def address(request, path):
    abstract = f"\0ironloop-{os.getpid()}"
    return {
        "str": str(path),
        "Path": path,
        "bytes": os.fsencode(path),
        "abstract": abstract,
        "abstract bytes": os.fsencode(abstract),
    }[request.param]


def as_the_kernel_says(address):
    """What getsockname() makes of an address: abstract names are bytes."""
    text = os.fsdecode(address)
    return os.fsencode(text) if text.startswith("\0") else text


async def accepting(protocols, address=None, **arguments):
    """A server whose protocols go into a queue once they are connected."""

    class Accepted(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            protocols.put_nowait(self)

    return await asyncio.get_running_loop().create_unix_server(Accepted, address, **arguments)


def test_both_ends_know_their_names(run, loop, address):
    async def main():
        protocols = asyncio.Queue()
        server = await accepting(protocols, address)
        transport, client = await loop.create_unix_connection(Recorder, address)
        accepted = await protocols.get()
        transport.write(b"hello")
        assert await client.received(5) == b"hello"
        name = as_the_kernel_says(address)
        assert server.sockets[0].getsockname() == name
        for end, local, remote in ((client, "", name), (accepted, name, "")):
            sock = end.transport.get_extra_info("socket")
            assert sock.family == socket.AF_UNIX
            assert sock.type == socket.SOCK_STREAM
            assert end.transport.get_extra_info("sockname") == sock.getsockname() == local
            assert end.transport.get_extra_info("peername") == sock.getpeername() == remote
        await close_all(client, accepted, server)

    run(main)


@pytest.mark.parametrize("name", ["path", "abstract", "chosen by the kernel"])
def test_a_server_knows_the_name_of_a_client_that_has_one(run, loop, path, name):
    async def main():
        protocols = asyncio.Queue()
        server = await accepting(protocols, path)
        sock = socket.socket(socket.AF_UNIX)
        own = {"path": f"{path}.client", "abstract": f"\0ironloop-client-{os.getpid()}", "chosen by the kernel": ""}
        sock.bind(own[name])
        sock.setblocking(False)
        await loop.sock_connect(sock, str(path))
        transport, client = await loop.create_unix_connection(Recorder, sock=sock)
        accepted = await protocols.get()
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert accepted.transport.get_extra_info("peername") == sock.getsockname()
        if own[name]:
            assert sock.getsockname() == as_the_kernel_says(own[name])
        await close_all(client, accepted, server)

    run(main)


def test_a_connected_pair_has_no_names(run, loop):
    async def main():
        ends = []
        for sock in socket.socketpair():
            transport, protocol = await loop.create_unix_connection(Recorder, sock=sock)
            assert transport.get_extra_info("sockname") == transport.get_extra_info("peername") == ""
            assert transport.get_extra_info("socket").fileno() == sock.fileno()
            assert sock.gettimeout() == 0
            ends.append(protocol)
        ends[0].transport.write(b"hello")
        assert await ends[1].received(5) == b"hello"
        await close_all(*ends)

    run(main)


def test_a_server_takes_a_socket_that_is_bound(run, loop, path):
    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        protocols = asyncio.Queue()
        server = await accepting(protocols, sock=sock)
        assert sock.gettimeout() == 0
        _, client = await loop.create_unix_connection(Recorder, path)
        await close_all(client, await protocols.get(), server)
        assert sock.fileno() == -1

    run(main)


def test_streams_over_a_unix_socket(run, address):
    async def main():
        async def greet(reader, writer):
            writer.write(b"hello, " + await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_unix_server(greet, address)
        reader, writer = await asyncio.open_unix_connection(address)
        writer.write(b"world\n")
        assert await reader.read() == b"hello, world\n"
        writer.close()
        await writer.wait_closed()
        await close_all(server)

    run(main)


def test_large_messages_and_half_close(run, loop, path):
    async def main():
        server = await loop.create_unix_server(Echo, path)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        data = bytes(range(256)) * 8000
        transport.write(data)
        assert await protocol.received(len(data)) == data
        transport.write_eof()
        await protocol.lost
        await close_all(server)

    run(main)


def test_a_server_that_does_not_serve_yet_refuses(run, loop, path):
    async def main():
        protocols = asyncio.Queue()
        server = await accepting(protocols, path, start_serving=False)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)
        await server.start_serving()
        _, client = await loop.create_unix_connection(Recorder, path)
        await close_all(client, await protocols.get(), server)
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await loop.create_unix_connection(Recorder, path)

    run(main)


# The file


def test_a_stale_socket_file_is_replaced(run, loop, address, path):
    async def main():
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        server = await loop.create_unix_server(Echo, address)
        _, protocol = await loop.create_unix_connection(Recorder, address)
        await close_all(protocol, server)

    run(main)


def test_a_live_server_s_file_is_replaced_and_stays_when_it_closes(run, loop, path):
    async def main():
        first = await loop.create_unix_server(Echo, path)
        protocols = asyncio.Queue()
        second = await accepting(protocols, path)
        await close_all(first)
        _, client = await loop.create_unix_connection(Recorder, path)
        await close_all(client, await protocols.get(), second)

    run(main)


def test_a_regular_file_is_not_replaced(run, loop, tmp_path):
    async def main():
        path = tmp_path / "file"
        path.write_text("precious")
        with pytest.raises(OSError, match=r"Address '.*/file' is already in use"):
            await loop.create_unix_server(Echo, path)
        assert path.read_text() == "precious"
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)

    run(main)


def test_an_abstract_name_is_taken_once(run, loop):
    async def main():
        name = f"\0ironloop-{os.getpid()}"
        server = await loop.create_unix_server(Echo, name)
        with pytest.raises(OSError, match=r"Address '.*ironloop-.*' is already in use"):
            await loop.create_unix_server(Echo, name)
        await close_all(server)
        await close_all(await loop.create_unix_server(Echo, name))

    run(main)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="since Python 3.13 the file goes")
def test_the_file_stays_when_the_server_closes(run, loop, path):
    async def main():
        await close_all(await loop.create_unix_server(Echo, path))
        assert path.exists()

    run(main)


@NEW_IN_3_13
@pytest.mark.parametrize("given", ["path", "sock"])
@pytest.mark.parametrize("clean", [True, False, None])
def test_the_file_goes_with_the_server(run, loop, path, clean, given):
    async def main():
        arguments = {} if clean is None else {"cleanup_socket": clean}
        if given == "path":
            arguments["path"] = path
        else:
            arguments["sock"] = socket.socket(socket.AF_UNIX)
            arguments["sock"].bind(str(path))
        await close_all(await loop.create_unix_server(Echo, **arguments))
        assert path.exists() is (clean is False)

    run(main)


@NEW_IN_3_13
@pytest.mark.parametrize("other", ["nothing", "file"])
def test_only_the_server_s_own_file_goes(run, loop, path, caplog, other):
    async def main():
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        path.rename(f"{path}.moved")
        if other == "file":
            path.write_text("precious")
        await close_all(server)
        assert path.exists() is (other == "file")
        assert caplog.records == []

    run(main)


# Refusals


def test_nobody_there_is_an_error(run, loop, path):
    async def main():
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, path)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, f"\0ironloop-nobody-{os.getpid()}")

    run(main)


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
def test_a_path_that_is_too_long_is_an_error(run, loop, tmp_path, method):
    async def main():
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            await getattr(loop, method)(Recorder, tmp_path / ("x" * 108))

    run(main)


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
@pytest.mark.parametrize("wrong", [5, object(), ["path"]])
def test_something_that_is_no_path_is_an_error(run, loop, method, wrong):
    async def main():
        with pytest.raises(TypeError, match=r"expected str, bytes or os.PathLike object"):
            await getattr(loop, method)(Recorder, wrong)

    run(main)


@contextlib.contextmanager
def nobody():
    """Without the rights of root, if the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
def test_a_folder_without_permission_is_an_error(run, loop, tmp_path, caplog, method):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0)

    async def main():
        with nobody(), pytest.raises(PermissionError):
            await getattr(loop, method)(Recorder, folder / "socket")

    run(main)
    folder.chmod(0o700)
    logged = [record.getMessage().partition(" '")[0] for record in caplog.records]
    assert logged == ["Unable to check or remove stale UNIX socket"] * (method == "create_unix_server")


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
def test_a_folder_that_is_a_file_is_an_error(run, loop, path, method):
    path.touch()

    async def main():
        with pytest.raises(NotADirectoryError):
            await getattr(loop, method)(Recorder, path / "socket")

    run(main)


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
def test_a_path_and_a_socket_are_one_too_many_and_neither_is_too_few(run, loop, path, method):
    neither = {
        "create_unix_connection": "no path and sock were specified",
        "create_unix_server": "path was not specified, and no sock specified",
    }

    async def main():
        with pytest.raises(ValueError, match=neither[method]):
            await getattr(loop, method)(Recorder)
        with socket.socket(socket.AF_UNIX) as sock:
            with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                await getattr(loop, method)(Recorder, path, sock=sock)
            assert sock.fileno() != -1
        assert not path.exists()

    run(main)


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
def test_other_sockets_are_refused(run, loop, method, family, kind):
    async def main():
        with socket.socket(family, kind) as sock:
            with pytest.raises(ValueError, match=r"A UNIX Domain Stream Socket was expected, got <socket.socket"):
                await getattr(loop, method)(Recorder, sock=sock)
            assert sock.fileno() != -1

    run(main)


SHUTDOWN_TIMEOUT = pytest.param(
    {"ssl_shutdown_timeout": 1},
    "ssl_shutdown_timeout is only meaningful with ssl",
    marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11"),
)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"server_hostname": "name"}, "server_hostname is only meaningful with ssl"),
        ({"ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        SHUTDOWN_TIMEOUT,
        ({"ssl": True}, "you have to pass server_hostname when using ssl"),
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "you have to pass server_hostname when using ssl"),
    ],
)
def test_a_connection_s_tls_arguments_belong_together(run, loop, path, arguments, text):
    async def main():
        with pytest.raises(ValueError, match=text):
            await loop.create_unix_connection(Recorder, path, **arguments)

    run(main)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        SHUTDOWN_TIMEOUT,
        ({"ssl": True}, "ssl argument must be an SSLContext or None"),
        ({"ssl": False}, "ssl argument must be an SSLContext or None"),
    ],
)
def test_a_server_s_tls_arguments_belong_together(run, loop, path, arguments, text):
    async def main():
        with pytest.raises(TypeError if "ssl" in arguments else ValueError, match=text):
            await loop.create_unix_server(Recorder, path, **arguments)
        assert not path.exists()

    run(main)


class IntoBuffer(asyncio.BufferedProtocol):
    """A Recorder that lends its memory."""

    def __init__(self):
        self.recorder = Recorder()
        self.memory = bytearray(1 << 20)

    def connection_made(self, transport):
        self.recorder.connection_made(transport)

    def get_buffer(self, hint):
        return self.memory

    def buffer_updated(self, count):
        self.recorder.data_received(bytes(self.memory[:count]))

    def connection_lost(self, exc):
        self.recorder.connection_lost(exc)


@pytest.mark.parametrize("size", [10, 50_000])
@pytest.mark.parametrize("way", ["protocol", "buffered", "streams"])
def test_what_was_sent_behind_descriptors_comes_as_well(run, loop, size, way):
    """A read stops behind them, and there is no other event."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)

    def send():
        rights = array.array("i", [peer.fileno()])
        peer.sendmsg([b"x" * size], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        peer.sendall(b"y" * size)

    async def main():
        if way == "streams":
            reader, writer = await asyncio.open_connection(sock=ours)
            closable, received = writer, reader.readexactly
        else:
            factory = Recorder if way == "protocol" else IntoBuffer
            _, protocol = await loop.create_connection(factory, sock=ours)
            closable = protocol if way == "protocol" else protocol.recorder
            received = closable.received
        for round in range(1, 3):
            send()
            behind = 2 * size if way == "streams" else 2 * size * round
            assert (await received(behind))[-2 * size :] == b"x" * size + b"y" * size
        await close_all(closable)

    with peer:
        run(main)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_what_was_sent_behind_urgent_data_comes_as_well(run, loop, family):
    """A read stops in front of them, and there is no other event."""
    if family == "unix":
        ours, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    ours.setblocking(False)

    async def main():
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        peer.send(b"before")
        try:
            peer.send(b"!", socket.MSG_OOB)
        except OSError:
            pytest.skip("this kernel's Unix sockets know no urgent data")
        peer.send(b"behind")
        assert await protocol.received(12) == b"beforebehind"
        await close_all(protocol)

    with peer:
        run(main)
