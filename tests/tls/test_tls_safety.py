"""TLS where memory could go wrong: callbacks that come back, contexts that go, threads, forks, the interpreter's end.

All of it is legal Python, so nothing of it may crash; most is meant for a build with a sanitizer (tests/sanitize.sh).
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.support.protocols import connected_pair as plain_pair
from tests.tls.peers import connect, connected_pair

ENABLE_KTLS = getattr(ssl, "OP_ENABLE_KTLS", 1 << 3)


def transports_of(context):
    """Of all TLS connections that live, by way of their native halves."""
    connections = [thing for thing in gc.get_objects() if type(thing).__name__ == "TlsConnection"]
    return [it._app_transport for it in connections if it._sslcontext is context and it._app_transport is not None]


@pytest.mark.parametrize("what", ["write", "write a lot", "close", "abort", "look", "let go"])
def test_a_callback_may_come_back_to_its_connection(run, tls, better, what):
    """In the middle of the handshake, while OpenSSL is at work on it."""
    called = []

    def come_back(tls_object, _name, _context):
        (transport,) = transports_of(server_context)
        if what == "write":
            transport.writelines([b"early ", b"data"])
        elif what == "write a lot":
            transport.write(bytes(3_000_000))
        elif what in ("close", "abort"):
            getattr(transport, what)()
        elif what == "look":
            assert transport.get_write_buffer_size() == 0
            assert transport.get_read_buffer_size() == 0
            assert tls_object.pending() == 0
            with pytest.raises(ssl.SSLError):
                tls_object.read(1)
        else:
            made_by.clear()
            del transport
            gc.collect()
        called.append(what)

    server_context = tls.server_context()
    server_context.sni_callback = come_back
    made_by = []

    def factory():
        made_by.append(Recorder())
        return made_by[-1]

    async def main():
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=server_context)
        try:
            client = await connect(tls, server)
            if what == "write":
                assert await client.received(10) == b"early data"
            elif what == "write a lot":
                assert await client.received(3_000_000) == bytes(3_000_000)
        except (OSError, ssl.SSLError):
            assert what in ("close", "abort", "look")
        else:
            assert what not in ("close", "abort")
            await close_all(client)
        assert called == [what]
        await close_all(server)

    run(main)


@pytest.mark.parametrize("what", ["abort", "close", "pause_reading"])
def test_a_callback_may_end_the_transport_below(run, loop, tls, what):
    async def main():
        client, peer, server = await plain_pair()
        below = peer.transport
        context = tls.server_context()
        context.sni_callback = lambda *_arguments: getattr(below, what)()
        outcomes = await asyncio.gather(
            loop.start_tls(client.transport, client, tls.client_context(), server_hostname="localhost"),
            loop.start_tls(below, peer, context, server_side=True, ssl_handshake_timeout=0.2),
            return_exceptions=True,
        )
        if what == "abort":
            assert isinstance(outcomes[0], OSError)
        client.transport.abort()
        below.abort()
        for outcome in outcomes:
            if isinstance(outcome, asyncio.Transport):
                outcome.abort()
        for _ in range(3):
            await asyncio.sleep(0.001)
        await close_all(server)

    run(main)


def test_a_context_that_only_a_callback_knew_stays_as_long_as_it_is_used(run, tls):
    gone = []

    def swap(tls_object, _name, _context):
        fresh = tls.server_context("localhost")
        gone.append(weakref.ref(fresh))
        tls_object.context = fresh

    async def main():
        context = tls.server_context("second")
        context.sni_callback = swap
        client, peer, server = await connected_pair(tls, server_context=context)
        context.sni_callback = None
        del context
        gc.collect()
        assert gone[0]() is not None
        client.transport.write(bytes(200_000))
        await peer.received(200_000)
        assert peer.transport.get_extra_info("ssl_object").context is gone[0]()
        await close_all(client, peer, server)
        del client, peer, server
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        assert gone[0]() is None

    run(main)


def test_messages_are_told_to_who_asked_for_them(run, tls, modern):
    """By a callback that `ssl` has for debugging, and what it raises ends the connection."""

    class Boom(Exception):
        """What the callback raises."""

    told = []
    failing = False

    def tell(_object, direction, _version, content_type, _message_type, _data):
        told.append((direction, int(content_type)))
        if failing:
            raise Boom

    async def main():
        nonlocal failing
        context = tls.client_context()
        context._msg_callback = tell
        client, peer, server = await connected_pair(tls, client_context=context)
        assert ("write", 22) in told
        assert ("read", 22) in told
        asyncio.get_running_loop().set_exception_handler(lambda *_arguments: None)
        failing = True
        peer.transport.write(b"data")
        assert isinstance(await client.lost, Boom)
        context._msg_callback = None
        await close_all(peer, server)

    run(main)


@pytest.mark.parametrize("count", [1, 100_000])
def test_the_kernel_may_be_asked_to_encrypt(run, tls, loop_name, count):
    """The option is accepted; who cannot follow it, or does not, speaks ordinary TLS."""

    async def main():
        contexts = {"client_context": tls.client_context(), "server_context": tls.server_context()}
        for context in contexts.values():
            context.options |= ENABLE_KTLS
        client, peer, server = await connected_pair(tls, server_factory=Echo, **contexts)
        assert contexts["server_context"].options & ENABLE_KTLS
        client.transport.write(bytes(count))
        assert await client.received(count) == bytes(count)
        if loop_name == "ironloop":
            assert client.transport.get_extra_info("ktls") is False
            assert peer.transport.get_extra_info("ktls") is False
        await close_all(client, peer, server)

    run(main)


def test_threads_with_a_loop_each_share_contexts(loop_factory, tls):
    """On free-threaded builds all at the same time; contexts change meanwhile, and the collector runs."""
    server_context, client_context = tls.server_context(), tls.client_context()
    other = tls.server_context("first")
    failures = []
    done = threading.Event()

    def choose(tls_object, name, _context):
        tls_object.context = other if name == "first.test" else server_context

    server_context.sni_callback = choose

    async def exchange(round_number):
        name = "first.test" if round_number % 2 else "localhost"
        client, peer, server = await connected_pair(
            tls,
            server_factory=Echo,
            client_context=client_context,
            server_context=server_context,
            server_hostname=name,
        )
        client.transport.write(bytes(50_000))
        assert await client.received(50_000) == bytes(50_000)
        assert client.transport.get_extra_info("ssl_object").server_hostname == name
        await close_all(client, peer, server)

    def work():
        loop = loop_factory()
        try:
            for round_number in range(6):
                loop.run_until_complete(exchange(round_number))
        except BaseException as error:
            failures.append(error)
        finally:
            loop.close()

    def disturb():
        while not done.is_set():
            server_context.options |= ssl.OP_NO_TICKET
            server_context.options &= ~ssl.OP_NO_TICKET
            gc.collect()

    threads = [threading.Thread(target=work) for _ in range(3)]
    disturber = threading.Thread(target=disturb)
    for thread in (*threads, disturber):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    disturber.join()
    assert failures == []


PROLOGUE = """
import asyncio, gc, os, ssl, sys, threading, warnings
import ironloop
warnings.simplefilter("ignore")
certificate, authority = sys.argv[1:]

def contexts():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=authority)

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def pair(contexts):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=contexts[0])
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=contexts[1], server_hostname="localhost"
    )
    return server, reader, writer

async def echo(reader, writer, size):
    writer.write(bytes(size))
    assert await reader.readexactly(size) == bytes(size)
"""

# Each ends an interpreter in which TLS connections live.
ENDS = {
    "a loop that nobody closes": """
        loop = ironloop.new_event_loop()
        kept = loop.run_until_complete(pair(contexts()))
        loop.run_until_complete(echo(*kept[1:], 100_000))
    """,
    "exit in a callback": """
        class Leaves(Echo):
            def data_received(self, data):
                sys.exit(0)
        async def main():
            global kept
            loop = asyncio.get_running_loop()
            both = contexts()
            server = await loop.create_server(Leaves, "127.0.0.1", 0, ssl=both[0])
            kept = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=both[1], server_hostname="localhost"
            )
            kept[1].write(b"x")
            await asyncio.sleep(3600)
        ironloop.run(main())
    """,
    "exit in the middle of a handshake": """
        async def main():
            both = contexts()
            leave = asyncio.get_running_loop().call_soon
            both[0].sni_callback = lambda *_arguments: leave(sys.exit, 0) and None
            await pair(both)
            os._exit(1)
        ironloop.run(main())
    """,
    "a daemon thread at work": """
        ready = threading.Event()
        async def main():
            _server, reader, writer = await pair(contexts())
            while True:
                await echo(reader, writer, 100_000)
                ready.set()
        threading.Thread(target=lambda: ironloop.run(main()), daemon=True).start()
        ready.wait()
    """,
    "a daemon thread in a context of the program's": """
        ready = threading.Event()
        class Busy(ssl.SSLContext):
            def wrap_bio(self, *arguments, **keywords):
                ready.set()
                while True:
                    pass
        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=contexts()[0])
            await loop.create_connection(Echo, *server.sockets[0].getsockname(), ssl=Busy(ssl.PROTOCOL_TLS_CLIENT))
        threading.Thread(target=lambda: ironloop.run(main()), daemon=True).start()
        ready.wait()
    """,
    "a cycle through the contexts": """
        async def main():
            both = contexts()
            kept = await pair(both)
            both[0].sni_callback = lambda *_arguments: kept
            both[1].cycle = kept
            await echo(*kept[1:], 1000)
        loop = ironloop.new_event_loop()
        loop.run_until_complete(main())
    """,
}


def run_script(tls, body):
    script = PROLOGUE + textwrap.dedent(body)
    command = [sys.executable, "-X", "faulthandler", "-c", script, tls.path("localhost"), tls.path("authority")]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_with_live_connections(tls, end):
    done = run_script(tls, ENDS[end])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_leaves_its_parents_connections_alone(tls):
    """It frees its copies, has connections of its own, and ends; the parent's go on."""
    done = run_script(
        tls,
        """
        class Counts(Echo):
            wanted = asyncio.Event()
            count = 0
            def data_received(self, data):
                self.count += len(data)
                if self.count == 201_000:
                    self.wanted.set()
        async def main():
            both = contexts()
            server, *others = await pair(both)
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Counts, *server.sockets[0].getsockname(), ssl=both[1], server_hostname="localhost"
            )
            transport.write(bytes(1000))
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                try:
                    transport = protocol = None
                    gc.collect()
                    ironloop.run(anew(both))
                    os._exit(7)
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
            status = await asyncio.to_thread(os.waitpid, pid, 0)
            transport.write(bytes(200_000))
            await protocol.wanted.wait()
            print(os.waitstatus_to_exitcode(status[1]))
        async def anew(both):
            _server, reader, writer = await pair(both)
            await echo(reader, writer, 100_000)
            writer.close()
        ironloop.run(main())
        """,
    )
    assert done.stdout.strip() == "7", done.stderr
