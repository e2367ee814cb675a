"""Each operation with each of its allocations failing, one at a time: the program of tests/test_no_memory.py.

    python no_memory.py [OPERATION...]

Prints a line for each operation: its name, how many times an allocation failed and somebody was told so, and how many
runs there were. What is not a MemoryError, or leaves a loop that no longer works, ends it with a traceback. Only
Python's own allocators fail (`_testcapi.set_nomemory`); Rust's end the process by design when there is nothing left.
"""

from __future__ import annotations

import _testcapi
import asyncio
import faulthandler
import logging
import os
import re
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

import ironloop

from tests.support.certificate import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: An operation is over when so many runs in a row had no failure: it allocates less often than that.
CLEAN_RUNS = 8
MOST_RUNS = 400
MUCH = bytes(400_000)
SOME = b"0123456789" * 10
FORGETFUL = re.compile("error return without exception set|<function .* returned NULL without setting an exception")


class Recorder(asyncio.Protocol, asyncio.DatagramProtocol):
    """Remembers what it is told, without an allocation that matters."""

    def __init__(self) -> None:
        self.lost: list[Any] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Buffered(Recorder, asyncio.BufferedProtocol):  # type: ignore[misc]
    memory = bytearray(4096)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.memory


class Bench:
    """A loop, what goes on in it, and what was reported."""

    def __init__(self) -> None:
        self.loop = ironloop.new_event_loop()
        self.reports: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.reports.append(context))
        self.things: list[Any] = []

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def turns(self) -> None:
        for _ in range(5):
            self.turn()

    def pair(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair(type=kind)
        for sock in pair:
            sock.setblocking(False)
        self.things += pair
        return pair

    def stream(self, protocol: Any) -> tuple[Any, socket.socket]:
        ours, peer = self.pair()
        transport, _ = self.loop.run_until_complete(self.loop.create_connection(lambda: protocol, sock=ours))
        self.things.append(transport)
        return transport, peer

    def close(self) -> None:
        for thing in self.things:
            thing.close()
        self.turns()
        self.loop.close()


def scheduling(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    loop = bench.loop
    yield "call_soon", lambda: loop.call_soon(len, "x")
    yield "call_soon with arguments", lambda: loop.call_soon(max, 1, 2, 3)
    yield "call_later", lambda: loop.call_later(1000, len, "x").cancel()
    yield "call_at", lambda: loop.call_at(loop.time(), len, "x")
    yield "call_soon_threadsafe", lambda: loop.call_soon_threadsafe(len, "x")
    yield "create_future", loop.create_future
    yield "handle", lambda: repr(loop.call_soon(len, "x"))
    yield "failing callback", lambda: loop.call_soon(lambda: 1 // 0)
    loop.run_until_complete(loop.run_in_executor(None, len, "x"))
    yield "executor", lambda: loop.run_in_executor(None, len, "x")

    async def sleeps() -> None:
        await asyncio.sleep(0)

    coroutine = sleeps()
    bench.things.append(coroutine)
    yield "task", lambda: loop.create_task(coroutine)
    sock, peer = bench.pair()
    yield "add_reader", lambda: (loop.add_reader(sock, len, "x"), loop.remove_reader(sock))
    loop.add_reader(sock, lambda: sock.recv(100))
    yield "reader", lambda: peer.send(b"x")


def streams(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, protocol in [("bytes", Recorder()), ("buffer", Buffered()), ("stream", None)]:
        if protocol is None:
            reader = asyncio.StreamReader(loop=bench.loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=bench.loop)
        _transport, peer = bench.stream(protocol)
        yield f"receive into {name}", lambda peer=peer: peer.send(b"x" * 100)
    _transport, peer = bench.stream(Recorder())
    peer.send(bytes(100_000))
    bench.turns()
    # The second time it is received into memory of its size.
    yield "receive much", lambda: peer.send(bytes(100_000))
    transport, _peer = bench.stream(Recorder())
    for data in (b"x" * 100, bytearray(100), memoryview(b"x" * 100)[::2]):
        yield f"write {type(data).__name__}", lambda data=data: transport.write(data)
    yield "writelines", lambda: transport.writelines([b"x", bytearray(3)])
    full, _peer = bench.stream(Recorder())
    yield "write until full", lambda: (full.write(MUCH), full.write(b"x"))
    yield "get_extra_info", lambda: (transport.get_extra_info("socket"), transport.get_extra_info("peername"))
    yield "repr", lambda: repr(transport)

    ours, peer = bench.pair()
    yield "transport", lambda: (bench.loop._make_socket_transport(ours, Recorder()), peer.send(b"x"))
    made, _peer = bench.stream(Recorder())
    yield "close", made.close


def receive_all(bench: Bench, sock: socket.socket, size: int) -> None:
    """Receive `SOME`: what an attempt fails to give is there for the next one."""
    received, failure = bytearray(), None
    while len(received) < len(SOME):
        got = b""
        try:
            got = bench.loop._try_recv(sock, size)
            received += got
        except MemoryError as error:
            # Only one allocation fails.
            failure = error
            received += got
    assert received == SOME
    if failure is not None:
        raise failure


def others(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    loop = bench.loop
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    bench.things.append(server)
    address = server.sockets[0].getsockname()

    client = socket.socket()
    client.setblocking(False)
    bench.things.append(client)
    yield "accept", lambda: client.connect_ex(address)
    receiver, _ = loop.run_until_complete(loop.create_datagram_endpoint(Recorder, ("127.0.0.1", 0)))
    bench.things.append(receiver)
    target = receiver.get_extra_info("sockname")
    yield "datagrams", lambda: (receiver.sendto(b"x", target), receiver.sendto(bytearray(3), target))
    fds = os.pipe()
    output = os.fdopen(fds[1], "wb", 0)
    loop.run_until_complete(loop.connect_read_pipe(Recorder, os.fdopen(fds[0], "rb", 0)))
    pipe, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.BaseProtocol, output))
    bench.things.append(pipe)
    yield "pipes", lambda: (pipe.write(b"x"), pipe.write(MUCH))
    sock, peer = bench.pair()

    def receive() -> None:
        peer.send(b"x" * 10)
        coroutine = loop.sock_recv(sock, 100)
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        finally:
            coroutine.close()

    yield "sock_recv", receive
    for size in (7, 100_000):
        sock, peer = bench.pair()
        peer.send(SOME)
        yield f"all of sock_recv, by {size}", lambda sock=sock, size=size: receive_all(bench, sock, size)
    yield "metrics", loop.metrics
    yield "progress", loop._progress


def tls(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    loop = bench.loop
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0, ssl=server_context()))
    address = server.sockets[0].getsockname()
    client, _ = loop.run_until_complete(loop.create_connection(Recorder, *address, ssl=client_context()))
    while not accepted or accepted[0].transport is None:
        bench.turn()
    bench.things += [server, client, accepted[0].transport]
    yield "TLS", lambda: client.write(b"x")
    yield "TLS, much", lambda: client.write(MUCH)
    yield "TLS, close", client.close


GROUPS = [scheduling, streams, others, tls]


def attempt(bench: Bench, act: Callable[[], Any], allocation: int) -> bool:
    """Whether somebody was told that the allocation failed, in `act` or in what the loop then does about it.

    The beginning and the end of a run are Python code of asyncio's, which an allocation that fails leaves half done.
    """
    bench.reports.clear()
    outcomes: list[BaseException | None] = [None]

    def begin() -> None:
        _testcapi.set_nomemory(allocation, allocation + 1)
        try:
            act()
        except BaseException as error:
            outcomes[0] = error

    def end() -> None:
        _testcapi.remove_mem_hooks()
        bench.loop.stop()

    bench.loop.call_later(0.01, end)
    bench.loop.call_soon(begin)
    try:
        bench.loop.run_forever()
    except BaseException as error:
        # There was no memory to say what happened.
        outcomes.append(error)
    finally:
        _testcapi.remove_mem_hooks()
    outcomes += [report.get("exception") for report in bench.reports]
    for outcome in outcomes:
        # CPython 3.11 forgets to say why when there is no room for another frame of Python code.
        interpreters = isinstance(outcome, SystemError) and FORGETFUL.fullmatch(str(outcome))
        if not interpreters and not isinstance(outcome, (MemoryError, ZeroDivisionError, type(None))):
            raise AssertionError(f"{bench.reports}") from outcome
    return any(isinstance(outcome, (MemoryError, SystemError)) for outcome in outcomes)


def explore(group: Callable[[Bench], Any], name: str) -> tuple[int, int]:
    failures, clean = 0, 0
    for allocation in range(MOST_RUNS):
        bench = Bench()
        for found, act in group(bench):
            if found == name:
                failed = attempt(bench, act, allocation)
                break
        failures += failed
        clean = 0 if failed else clean + 1
        # It still works.
        seen: list[int] = []
        bench.loop.call_soon(seen.append, 1)
        bench.turn()
        assert seen == [1], f"{name}: the loop is dead after allocation {allocation}"
        bench.close()
        if clean == CLEAN_RUNS:
            break
    return failures, allocation + 1


def main() -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable()
    for group in GROUPS:
        bench = Bench()
        names = [name for name, _ in group(bench)]
        bench.close()
        for name in names:
            if len(sys.argv) == 1 or name in sys.argv[1:]:
                print(name, *explore(group, name), sep="\t", flush=True)


if __name__ == "__main__":
    main()
