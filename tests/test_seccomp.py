"""Containers: the loop gets along without the system calls that their default profiles forbid, and without io_uring.

The kernel ends the process that makes such a call, so a program that does everything and ends well has made none.
"""

from __future__ import annotations

import errno
import platform
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.support import seccomp
from tests.support.certificate import PEM

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64"),
    pytest.mark.slow,
]

FORBIDDEN = [*seccomp.IO_URING.values(), *seccomp.FORBIDDEN_IN_CONTAINERS.values()]

EVERYTHING = """
import asyncio, ironloop, os, pathlib, signal, socket, ssl, sys, tempfile, threading

folder = tempfile.TemporaryDirectory()
certificate = pathlib.Path(folder.name, "certificate.pem")
certificate.write_text(sys.argv[1])
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(certificate)
client_context = ssl.create_default_context(cadata=sys.argv[1][sys.argv[1].index("-----BEGIN CERTIFICATE"):])

async def echo(reader, writer):
    while data := await reader.read(100_000):
        writer.write(data)
        await writer.drain()
    writer.close()

async def talk(connecting):
    reader, writer = await connecting
    message = os.urandom(1_000_000)
    writer.write(message)
    assert await reader.readexactly(len(message)) == message
    writer.close()
    await writer.wait_closed()

async def streams():
    path = os.path.join(folder.name, "socket")
    for context in (None, server_context):
        async with await asyncio.start_server(echo, "localhost", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            options = {"ssl": client_context} if context else {}
            await asyncio.gather(*(talk(asyncio.open_connection("localhost", port, **options)) for _ in "12"))
    async with await asyncio.start_unix_server(echo, path):
        await talk(asyncio.open_unix_connection(path))

async def files():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    path = pathlib.Path(folder.name, "file")
    path.write_bytes(os.urandom(60_000))
    with path.open("rb") as file:
        assert await loop.sendfile(writer.transport, file, 0, 50_000) == 50_000
        file.seek(0)
        assert await reader.readexactly(50_000) == file.read(50_000)
    writer.close()
    server.close()

async def datagrams():
    loop = asyncio.get_running_loop()
    received = loop.create_future()
    class Server(asyncio.DatagramProtocol):
        count = 0
        def datagram_received(self, data, address):
            self.count += 1
            if self.count == 50:
                received.set_result(data)
    server, _ = await loop.create_datagram_endpoint(Server, ("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
    for _ in range(50):
        client.sendto(b"x")
    await received
    client.close()
    server.close()

async def pipes_and_children():
    loop = asyncio.get_running_loop()
    for _ in range(3):
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await child.communicate(bytes(300_000))
        assert (len(output), child.returncode) == (300_000, 0)
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb"))
    transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb"))
    transport.write(b"through a pipe")
    transport.close()
    assert await reader.read() == b"through a pipe"

async def scheduling():
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await came.wait()
    for delay in (0, 0.0001, 0.001, 0.01):
        await asyncio.sleep(delay)
    woken = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set_result, 1)).start()
    assert await woken
    assert await asyncio.to_thread(sum, [1, 2]) == 3
    assert await loop.getaddrinfo("localhost", 80)

async def main():
    for part in (streams, files, datagrams, pipes_and_children, scheduling):
        await part()
        print(part.__name__)

ironloop.run(main())
folder.cleanup()
"""


def behind_a_filter(code, *arguments, **rules):
    argv = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(seccomp.command(argv, **rules), capture_output=True, text=True, timeout=50)


@pytest.fixture(autouse=True)
def _allowed():
    if behind_a_filter("").returncode:
        pytest.skip("no filter can be installed here")


@pytest.mark.parametrize("number", [*seccomp.IO_URING.values(), seccomp.FORBIDDEN_IN_CONTAINERS["mbind"]])
def test_the_filter_ends_a_process_that_makes_a_forbidden_call(number):
    done = behind_a_filter(f"import ctypes; ctypes.CDLL(None).syscall({number}, 0, 0, 0, 0, 0, 0)", kill=FORBIDDEN)
    assert done.returncode == -signal.SIGSYS


@pytest.mark.parametrize("answer", [None, errno.EPERM, errno.ENOSYS], ids=["allowed", "EPERM", "ENOSYS"])
def test_everything_works_without_the_calls_that_containers_forbid(answer):
    """And without those that are newer than the profile, which are refused with one errno or the other."""
    refuse = {} if answer is None else dict.fromkeys(seccomp.NEWER.values(), answer)
    if refuse:
        refuse[seccomp.NEWER["clone3"]] = errno.ENOSYS  # what every profile answers, as glibc insists on it
    done = behind_a_filter(EVERYTHING, PEM, kill=FORBIDDEN, refuse=refuse)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["streams", "files", "datagrams", "pipes_and_children", "scheduling"]
