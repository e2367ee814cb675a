"""Many events at once: each comes once, and before what they lead to, however the loop takes them from the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import whole_turns
from tests.support.programs import NEW_LOOP, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

#: More than the loop takes from the kernel with one call, and not a multiple of that.
CROWD = 150


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair() for _ in range(CROWD)]
        for left, right in made:
            stack.enter_context(left).setblocking(False)
            stack.enter_context(right)
        yield made


def one_turn(loop):
    """Run what asyncio runs in one turn; callbacks that were scheduled before come first."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def watch(loop, pairs, handle):
    """Have `handle` called with the index of each pair that has something to read, as all of them have."""
    for index, (left, right) in enumerate(pairs):
        loop.add_reader(left, handle, index)
        right.send(b"x")


def unwatch(loop, pairs):
    for left, _right in pairs:
        loop.remove_reader(left)


@whole_turns
def test_events_come_before_timers_and_before_what_they_schedule(loop, pairs):
    order = []

    def handle(index):
        pairs[index][0].recv(1)
        order.append("event")
        loop.call_soon(order.append, "consequence")

    watch(loop, pairs, handle)
    loop.call_soon(order.append, "before")
    loop.call_at(loop.time() - 1, order.append, "timer")
    one_turn(loop)
    assert order == ["before", *["event"] * CROWD, "timer"]
    one_turn(loop)
    assert order[CROWD + 2 :] == ["consequence"] * CROWD
    unwatch(loop, pairs)


@whole_turns
def test_what_stays_ready_is_reported_once_in_a_turn(loop, pairs):
    seen = []
    watch(loop, pairs, seen.append)
    for turn in range(1, 4):
        one_turn(loop)
        assert sorted(seen) == sorted([*range(CROWD)] * turn)
    unwatch(loop, pairs)


def test_a_reader_may_leave_it_to_a_later_callback_to_remove_it(loop, pairs):
    errors = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    futures = []
    for left, right in pairs:
        future = loop.create_future()
        future.add_done_callback(lambda _future, left=left: loop.remove_reader(left))
        loop.add_reader(left, future.set_result, None)
        futures.append(future)
        right.send(b"x")
    loop.run_until_complete(asyncio.gather(*futures))
    one_turn(loop)
    assert errors == []


@whole_turns
def test_a_descriptor_that_an_earlier_event_took_away_is_not_reported(loop, pairs):
    seen = []

    def handle(index):
        if not seen:
            unwatch(loop, [pair for other, pair in enumerate(pairs) if other != index])
        seen.append(index)

    watch(loop, pairs, handle)
    one_turn(loop)
    assert len(seen) == 1
    unwatch(loop, pairs)


@pytest.mark.parametrize("when", [1, CROWD // 2, CROWD])
def test_the_events_behind_one_that_ends_the_run_are_not_lost(loop, pairs, when):
    seen = []

    def handle(index):
        pairs[index][0].recv(1)
        seen.append(index)
        if len(seen) == when:
            raise SystemExit

    watch(loop, pairs, handle)
    late = []
    loop.call_at(loop.time() - 1, late.append, "timer")
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert len(seen) == when
    while len(seen) < CROWD or not late:
        one_turn(loop)
    assert sorted(seen) == [*range(CROWD)]
    assert late == ["timer"]
    unwatch(loop, pairs)


@whole_turns
def test_a_stop_lets_the_turn_end(loop, pairs):
    seen = []

    def handle(index):
        pairs[index][0].recv(1)
        seen.append(index)
        loop.stop()

    watch(loop, pairs, handle)
    loop.run_forever()
    assert len(seen) == CROWD
    unwatch(loop, pairs)


@whole_turns
def test_data_of_many_connections_comes_before_what_it_leads_to(run, loop, pairs):
    async def main():
        order = []

        class Recorder(asyncio.Protocol):
            def data_received(self, data):
                order.append("data")
                asyncio.get_running_loop().call_soon(order.append, "consequence")

        made = [await loop.create_connection(Recorder, sock=left) for left, _right in pairs]
        for _left, right in pairs:
            right.send(b"x")
        while len(order) < 2 * CROWD:
            await asyncio.sleep(0)
        assert order == ["data"] * CROWD + ["consequence"] * CROWD
        for transport, _protocol in made:
            transport.close()
        await asyncio.sleep(0)

    run(main)


def test_a_child_forked_by_one_of_many_events_goes_on_with_the_others(loop_name):
    done = run_program(
        f"""
        import asyncio, os, socket, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        loop = {NEW_LOOP[loop_name]}
        pairs = [socket.socketpair() for _ in range({CROWD})]
        seen, child = set(), []

        def handle(index):
            if not child:
                child.append(os.fork())
            seen.add(index)

        for index, (left, right) in enumerate(pairs):
            right.send(b"x")
            loop.add_reader(left, handle, index)
        while len(seen) < len(pairs):
            loop.call_soon(loop.stop)
            loop.run_forever()
        if not child[0]:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]) == 7
        loop.close()
        print("ended")
        """,
        timeout=40,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
