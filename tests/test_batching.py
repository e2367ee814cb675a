"""Answers of one turn to several peers: where they are some time apart they leave in a row, and else nobody can tell.

Whether they do is learned from how long turns take. So `open` makes turns of callbacks that take their time until it
is seen, and what else is tested here has to hold either way: a slow moment makes the loop send at once again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import whole_calls
from tests.support.programs import run_program
from tests.support.turns import learned_to_wait, turn, waiting, write_and_be_busy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = whole_calls

PEERS = 4


class Peers:
    """Transports, each with the other end of its connection."""

    def __init__(self, loop, pairs):
        self.loop, self.pairs = loop, pairs
        self.transports = []

    async def open(self, loop_name="asyncio"):
        for left, _right in self.pairs:
            transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=left)
            self.transports.append(transport)
        if loop_name == "ironloop":
            assert await learned_to_wait(self.transports, self.pairs[0][1], self.receive_all)

    async def turn(self, look, data=b"answer"):
        return await turn(self.transports, data, look)

    async def receive_all(self):
        for _left, right in self.pairs:
            with contextlib.suppress(BlockingIOError):
                right.recv(65536)

    async def close(self):
        for transport in self.transports:
            transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
def peers(loop) -> Iterator[Peers]:
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(PEERS)]
        for left, right in pairs:
            stack.enter_context(left).setblocking(False)
            stack.enter_context(right).setblocking(False)
        yield Peers(loop, pairs)


def test_answers_that_are_apart_leave_at_the_end_of_the_turn(run, peers, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's transport sends at once")

    async def main():
        await peers.open(loop_name)
        await peers.turn(lambda: None)
        assert [right.recv(100) for _left, right in peers.pairs] == [b"answer"] * PEERS
        await peers.close()

    run(main)


def test_a_large_answer_leaves_at_once(run, peers, loop_name):
    async def main():
        await peers.open(loop_name)
        assert await peers.turn(lambda: waiting(peers.pairs[0][1]), bytes(20_000)) > 0
        await peers.close()

    run(main)


def send_past(transport):
    """Sends without the transport."""
    with socket.socket(fileno=transport.get_extra_info("socket").dup().detach()) as sock:
        sock.send(b"!")


def nothing_is_left(transport):
    assert transport.get_write_buffer_size() == 0


ENDS = {
    "size": (nothing_is_left, b"answer"),
    "close": (lambda transport: transport.close(), b"answer"),
    "abort": (lambda transport: transport.abort(), b"answer"),
    "write_eof": (lambda transport: transport.write_eof(), b"answer"),
    "write": (lambda transport: transport.write(b"!"), b"answer!"),
    "write_much": (lambda transport: transport.write(bytes(20_000)), b"answer" + bytes(20_000)),
    "writelines": (lambda transport: transport.writelines([b"!", b"?"]), b"answer!?"),
    "socket": (send_past, b"answer!"),
    "water_marks": (lambda transport: transport.set_write_buffer_limits(0), b"answer"),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_follows_in_the_same_turn_an_answer_comes_before_it(run, peers, loop_name, end):
    follow, expected = ENDS[end]

    async def main():
        await peers.open(loop_name)

        def look():
            for transport in peers.transports:
                follow(transport)

        await peers.turn(look)
        await asyncio.sleep(0)
        for _left, right in peers.pairs:
            received = b""
            while len(received) < len(expected):
                received += right.recv(65536)
            assert received == expected
        await peers.close()

    run(main)


def test_an_answer_leaves_before_an_exception_ends_the_run(loop, peers, loop_name):
    def leave():
        raise SystemExit

    async def main():
        await peers.open(loop_name)
        for transport in peers.transports:
            loop.call_soon(write_and_be_busy, transport, b"answer")
        loop.call_soon(leave)

    with pytest.raises(SystemExit):
        loop.run_until_complete(main())
    assert [right.recv(100) for _left, right in peers.pairs] == [b"answer"] * PEERS
    for transport in peers.transports:
        transport.abort()
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_what_waits_when_the_process_forks_is_sent_once():
    done = run_program(
        """
        import asyncio, os, socket, time, warnings, ironloop
        warnings.simplefilter("ignore", DeprecationWarning)

        async def main():
            loop = asyncio.get_running_loop()
            pairs = [socket.socketpair() for _ in range(4)]
            transports = []
            for left, right in pairs:
                transports.append((await loop.create_connection(asyncio.Protocol, sock=left))[0])

            def write(transport):
                transport.write(b"x")
                until = time.perf_counter_ns() + 25_000
                while time.perf_counter_ns() < until:
                    pass

            for _ in range(200):
                for transport in transports:
                    loop.call_soon(write, transport)
                await asyncio.sleep(0)
            for transport in transports:
                loop.call_soon(write, transport)
            child = []

            def fork():
                child.append(os.fork())
                if not child[0]:
                    # In the next turn: at the end of this one nothing of the parent's is sent.
                    loop.call_soon(os._exit, 0)

            loop.call_soon(fork)
            # The first one ends in the turn of the fork.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            os.waitpid(child[0], 0)
            print([len(right.recv(1000)) for _left, right in pairs])
            for transport in transports:
                transport.abort()
            for _left, right in pairs:
                right.close()

        ironloop.run(main())
        """,
        timeout=40,
    )
    assert (done.returncode, done.stdout) == (0, "[201, 201, 201, 201]\n"), done.stderr
