"""Connections that end without close_notify: FIN, RST, abort(), bytes that are no TLS, and transports left open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import warnings

import pytest

from tests.support.builds import whole_calls
from tests.support.protocols import Echo, Paused, Recorder, close_all
from tests.tls.peers import ManualPeer, connect, connected_pair, manual_client, serve

#: The state of a socket whose peer has closed, as the kernel numbers it (include/net/tcp_states.h).
CLOSE_WAIT = 8


def test_an_end_without_close_notify_is_an_end(run, tls, reports):
    """Which a truncation attack would look like; CPython's protocol does not tell them apart either."""

    async def main():
        async with manual_client(tls) as (manual, protocol):
            await manual.send(b"last words")
            manual.end()
            assert await protocol.lost is None
            assert bytes(protocol.data) == b"last words"
            assert protocol.events == ["made", "data", "eof", "lost"]
            assert reports == []

    run(main)


def test_an_end_in_mid_record_delivers_whole_records_only(run, loop, tls, reports):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            manual.tls.write(b"whole")
            whole = manual.outgoing.read()
            manual.tls.write(b"torn")
            torn = manual.outgoing.read()
            await loop.sock_sendall(manual.sock, whole + torn[:-1])
            manual.end()
            assert await protocol.lost is None
            manual.close()
            assert bytes(protocol.data) == b"whole"
            assert reports == []

    run(main)


def test_an_end_without_close_notify_is_seen_after_a_pause(run, tls, modern):
    async def main():
        async with manual_client(tls, Paused) as (manual, protocol):
            await manual.send(b"last words")
            manual.end()
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert protocol.events == ["made"]
            protocol.transport.resume_reading()
            assert await protocol.lost is None
            assert bytes(protocol.data) == b"last words"
            assert protocol.events == ["made", "data", "eof", "lost"]

    run(main)


class Sipping(Paused):
    """Pauses after each piece."""

    def data_received(self, data):
        super().data_received(data)
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self.transport.resume_reading)


def test_everything_before_the_end_arrives_if_the_protocol_pauses_after_each_piece(run, tls, modern):
    data = bytes(range(256)) * 800

    async def main():
        async with manual_client(tls, Sipping) as (manual, protocol):
            await manual.send(data)
            manual.end()
            protocol.transport.resume_reading()
            assert await protocol.lost is None
            assert bytes(protocol.data) == data
            assert protocol.events[-2:] == ["eof", "lost"]

    run(main)


@pytest.mark.parametrize("close_notify", [False, True])
def test_everything_before_the_end_arrives_through_a_small_buffer(run, tls, close_notify, better):
    """Of which CPython's protocol delivers one buffer."""
    data = bytes(range(256)) * 80

    class Small(asyncio.BufferedProtocol):
        def __init__(self):
            self.lost, self.made = (asyncio.get_running_loop().create_future() for _ in range(2))
            self.buffer, self.data = bytearray(1000), b""

        def connection_made(self, transport):
            self.transport = transport
            transport.pause_reading()
            self.made.set_result(None)

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, count):
            self.data += self.buffer[:count]

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        async with manual_client(tls, Small) as (manual, protocol):
            await manual.send(data)
            if close_notify:
                await manual.send_close_notify()
            manual.end()
            protocol.transport.resume_reading()
            assert await protocol.lost is None
            assert protocol.data == data

    run(main)


def test_close_ends_a_connection_at_its_end_whose_protocol_wants_no_more(run, tls, better):
    """Which CPython's protocol would leave open until it reads again."""

    async def main():
        async with manual_client(tls, Paused) as (manual, protocol):
            await manual.send(b"not wanted")
            manual.end()
            sock = protocol.transport.get_extra_info("socket")
            while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != CLOSE_WAIT:
                await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0.001)
            protocol.transport.close()
            assert await protocol.lost is None
            assert not protocol.data

    run(main)


def test_records_that_come_byte_by_byte_arrive(run, loop, tls):
    async def main():
        async with manual_client(tls, Echo) as (manual, protocol):
            manual.tls.write(b"drop by drop")
            for byte in manual.outgoing.read():
                await loop.sock_sendall(manual.sock, bytes([byte]))
                await asyncio.sleep(0)
            assert await manual.receive(12) == b"drop by drop"
            manual.close()
            await protocol.lost

    run(main)


def test_a_reset_is_told_as_such(run, tls, reports):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            manual.reset()
            assert isinstance(await protocol.lost, ConnectionResetError)
            assert protocol.events == ["made", "lost"]
            assert reports == []

    run(main)


def test_writes_into_a_broken_connection_raise_nothing(run, tls, reports):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            manual.reset()
            for _ in range(10):
                protocol.transport.write(b"x" * 1000)
                await asyncio.sleep(0)
            assert isinstance(await protocol.lost, ConnectionError)
            protocol.transport.write(b"x")
            assert protocol.events.count("lost") == 1
            assert reports == []

    run(main)


def test_a_large_write_into_a_broken_connection_is_one_failure(run, tls, reports, caplog):
    """Not one per piece that it is sent in."""

    async def main():
        async with manual_client(tls) as (manual, protocol):
            manual.reset()
            protocol.transport.write(bytes(4_000_000))
            assert isinstance(await protocol.lost, ConnectionError)
            assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
            assert reports == []

    run(main)


@pytest.mark.parametrize(("end", "told"), [("end", [None]), ("reset", [None, ConnectionResetError])])
def test_a_loss_while_close_waits_for_its_answer_ends_the_connection_once(run, tls, reports, end, told):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            protocol.transport.close()
            assert await manual.receive(1) == b""
            getattr(manual, end)()
            error = await protocol.lost
            assert (error if error is None else type(error)) in told
            assert protocol.events.count("lost") == 1
            assert reports == []

    run(main)


@pytest.mark.parametrize("state", ["idle", "full queue", "paused", "closing", "lost"])
def test_abort_ends_the_connection_once_in_every_state(run, tls, reports, state):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            transport = protocol.transport
            if state == "full queue":
                transport.write(b"x" * 10_000_000)
            elif state == "paused":
                transport.pause_reading()
            elif state == "closing":
                transport.close()
            elif state == "lost":
                manual.end()
                await protocol.lost
            transport.abort()
            assert transport.is_closing()
            assert "lost" not in protocol.events or state == "lost"
            assert await protocol.lost is None
            transport.abort()
            await asyncio.sleep(0)
            assert protocol.events.count("lost") == 1
            assert reports == []

    run(main)


def test_abort_says_nothing_to_the_peer(run, loop, tls):
    async def main():
        context = tls.server_context()
        context.num_tickets = 0
        async with manual_client(tls, context=context) as (manual, protocol):
            protocol.transport.abort()
            assert await loop.sock_recv(manual.sock, 100) == b""
            await protocol.lost

    run(main)


# Data that is not there yet when it closes is an error, on CPython's loop as well.
@pytest.mark.parametrize("method", ["abort", pytest.param("close", marks=whole_calls)])
def test_the_protocol_may_end_the_connection_when_it_gets_data(run, tls, method, reports):
    class Ending(Recorder):
        def data_received(self, data):
            super().data_received(data)
            getattr(self.transport, method)()

    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Ending)
        for _ in range(3):
            client.transport.write(b"hello")
        assert await peer.lost is None
        await asyncio.wait([client.lost])
        assert peer.events[:2] == ["made", "data"]
        assert peer.events.count("lost") == client.events.count("lost") == 1
        assert reports == []
        await close_all(server)

    run(main)


def is_unnamed(error):
    """CPython 3.13 knows the names of OpenSSL 3.1's reasons, and may be built with a later one."""
    return error.reason is None and "record layer failure" in str(error)


@pytest.mark.parametrize(
    "garbage",
    [b"no TLS at all\r\n", b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff" + bytes(65535)],
    ids=["text", "bad record", "too long"],
)
def test_bytes_that_are_no_tls_end_the_connection(run, loop, tls, garbage, reports, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            await manual.send(b"so far")
            await protocol.received(6)
            with contextlib.suppress(ConnectionError):  # the beginning is enough to end it
                await loop.sock_sendall(manual.sock, garbage)
            error = await protocol.lost
            assert isinstance(error, ssl.SSLError)
            assert error.library == "SSL"
            assert error.reason or is_unnamed(error)
            assert protocol.events == ["made", "data", "lost"]
            assert reports == []
            await manual.raw_end()

    run(main)


def test_a_changed_record_ends_the_connection(run, loop, tls, modern):
    async def main():
        async with manual_client(tls) as (manual, protocol):
            manual.tls.write(b"untouched")
            record = bytearray(manual.outgoing.read())
            record[-1] ^= 1
            await loop.sock_sendall(manual.sock, record)
            error = await protocol.lost
            assert isinstance(error, ssl.SSLError)
            # OpenSSL 3.0, 3.6.
            named = error.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
            assert named or is_unnamed(error)
            assert not protocol.data

    run(main)


def test_the_loss_is_told_once_whatever_happens(run, tls, reports):
    async def main():
        for order in range(12):
            async with manual_client(tls) as (manual, protocol):
                if order % 2:
                    manual.reset()
                elif order % 4:
                    await manual.send_close_notify()
                    manual.close()
                else:
                    manual.close()
                protocol.transport.write(b"x" * 100)
                if order % 3 == 0:
                    protocol.transport.close()
                if order % 3 == 1:
                    protocol.transport.abort()
                await asyncio.wait([protocol.lost])
                for _ in range(3):
                    await asyncio.sleep(0.001)
                assert protocol.events.count("lost") == 1
                assert protocol.events[-1] == "lost"
        assert reports == []

    run(main)


def test_a_lost_connection_does_not_harm_the_next(run, tls):
    async def main():
        server, made = await serve(tls, Echo)
        for _ in range(3):
            manual = await ManualPeer.connect(tls, server)
            manual.reset()
            client = await connect(tls, server)
            client.transport.write(b"hello")
            assert await client.received(5) == b"hello"
            await close_all(client)
        while not made.empty():
            # Of a handshake that the reset has overtaken, the protocol never hears.
            if (peer := made.get_nowait()).made.done():
                await asyncio.wait([peer.lost])
        await close_all(server)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython's transport tried to close itself on a closed loop")
def test_a_transport_that_nobody_closed_warns(loop, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        server.close()
        return client.transport, peer.transport

    transports = loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transports
        gc.collect()
    unclosed = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert len([text for text in unclosed if text.startswith("unclosed transport")]) >= 2
