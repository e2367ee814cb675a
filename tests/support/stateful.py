"""A machine of rules over asyncio's public surface, and a model of what has to come of them: the program of
tests/test_stateful.py.

    python stateful.py asyncio|ironloop EXAMPLES [random]

Loops, callbacks, timers, tasks and connections are made, used and closed in any order and state. What is called wrongly
raises an `Exception`; whatever else happens, callbacks run once and in order, cancelled ones never, and what arrives is
what was sent. Without `random` the same examples are made each time, and one that fails
is not looked for a shorter one, which may take minutes.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

import hypothesis
import ironloop
from hypothesis import stateful
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

FACTORIES: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "ironloop": ironloop.new_event_loop,
}
STEPS = 40
#: More than it takes to move all that a machine has written.
MOST_TURNS = 2000
LOOP_METHODS = [
    "add_reader", "add_writer", "call_exception_handler", "call_later", "call_soon", "call_soon_threadsafe",
    "create_future", "create_task", "default_exception_handler", "get_debug", "get_exception_handler",
    "get_task_factory", "is_closed", "is_running", "remove_reader", "remove_writer", "set_debug", "time", "__repr__",
]  # fmt: skip
TRANSPORT_METHODS = [
    "can_write_eof", "get_extra_info", "get_protocol", "get_write_buffer_limits", "get_write_buffer_size", "is_closing",
    "is_reading", "set_write_buffer_limits", "writelines", "__repr__",
]  # fmt: skip
#: Not call_at: asyncio's loop takes whatever can be compared with some other timer's, and fails later. No number is
#: that of a descriptor.
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 10**6, 2**40, 10**30, -1.5, 1e300, float("nan"), float("inf")]),
    st.text(max_size=3),
    st.sampled_from([len, int, repr, object(), ValueError("x"), (), [b"", 5], {}, {"message": "x"}, iter([5])]),
)


def attempt(call: Callable[[], Any]) -> Any:
    """What `call` returns, or the `Exception` that it raises: all that a wrong call may do."""
    try:
        return call()
    except (SystemError, AssertionError):
        raise
    except Exception as error:
        return error


class End(asyncio.Protocol):
    """One end of a connection, and what it knows of itself."""

    def __init__(self) -> None:
        self.received = bytearray()
        #: What was accepted for sending to the other end.
        self.sent = bytearray()
        self.paused = self.touched = False
        self.made = self.lost = 0
        self.transport: Any = None
        self.peer: Any = None

    def connection_made(self, transport: Any) -> None:
        self.made += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.made
        assert not self.lost
        assert not self.paused
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


class Side:
    """A loop, and what is expected of it."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        #: Numbers of the calls that are to run, in order, and of those that have run.
        self.expected: list[int] = []
        self.ran: list[int] = []
        self.timers_ran: list[int] = []
        #: Timers that are cancelled, or not due in this life.
        self.never: set[int] = set()
        self.ends: list[End] = []
        self.wrong: list[BaseException] = []
        loop.set_exception_handler(self.note)

    def note(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, (AssertionError, SystemError)):
            self.wrong.append(error)

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        if self.wrong:
            raise self.wrong[0]
        assert self.ran == self.expected


class Machine(stateful.RuleBasedStateMachine):
    factory: Callable[[], Any]
    sides = stateful.Bundle("sides")
    calls = stateful.Bundle("calls")
    tasks = stateful.Bundle("tasks")
    ends = stateful.Bundle("ends")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Side] = []
        self.number = 0

    @stateful.initialize(target=sides)
    def first_loop(self) -> Side:
        return self.new_loop()

    @stateful.rule(target=sides)
    def another_loop(self) -> Side:
        return self.new_loop()

    def new_loop(self) -> Side:
        self.all.append(Side(type(self).factory()))
        return self.all[-1]

    # Callbacks and timers

    @stateful.rule(target=calls, side=sides, method=st.sampled_from(["call_soon", "call_soon_threadsafe"]))
    def call(self, side: Side, method: str) -> Any:
        self.number += 1
        handle = attempt(lambda: getattr(side.loop, method)(side.ran.append, self.number))
        if side.loop.is_closed():
            assert isinstance(handle, RuntimeError)
            return stateful.multiple()
        side.expected.append(self.number)
        return side, self.number, handle

    @stateful.rule(target=calls, side=sides, delay=st.sampled_from([-1, 0, 0.0001, 1000.0]))
    def timer(self, side: Side, delay: float) -> Any:
        self.number += 1
        number = self.number
        handle = attempt(lambda: side.loop.call_later(delay, side.timers_ran.append, number))
        if side.loop.is_closed():
            assert isinstance(handle, RuntimeError)
            return stateful.multiple()
        if delay == 1000:
            side.never.add(number)
        return side, number, handle

    @stateful.rule(call=calls)
    def cancel(self, call: tuple[Side, int, Any]) -> None:
        side, number, handle = call
        handle.cancel()
        assert handle.cancelled()
        if number in side.expected and number not in side.ran:
            side.expected.remove(number)
        if number not in side.timers_ran:
            side.never.add(number)

    # Tasks

    @stateful.rule(target=tasks, side=sides, turns=st.integers(0, 3), fails=st.booleans())
    def task(self, side: Side, turns: int, fails: bool) -> Any:
        async def work() -> int:
            for _ in range(turns):
                await asyncio.sleep(0)
            if fails:
                raise LookupError(turns)
            return turns

        coroutine = work()
        task = attempt(lambda: side.loop.create_task(coroutine))
        if side.loop.is_closed():
            assert isinstance(task, RuntimeError)
            coroutine.close()
            return stateful.multiple()
        return side, task, turns, fails

    @stateful.rule(entry=tasks)
    def cancel_task(self, entry: tuple[Side, Any, int, bool]) -> None:
        attempt(entry[1].cancel)

    @stateful.rule(entry=tasks)
    def wait_for_task(self, entry: tuple[Side, Any, int, bool]) -> None:
        side, task, turns, fails = entry
        if side.loop.is_closed():
            return
        for _ in range(turns + 3):
            side.turn()
        assert task.done()
        if task.cancelled():
            return
        if fails:
            assert task.exception().args == (turns,)
        else:
            assert task.result() == turns

    # Connections

    @stateful.rule(target=ends, side=sides)
    def connect(self, side: Side) -> Any:
        if side.loop.is_closed():
            return stateful.multiple()
        made = []
        for sock in socket.socketpair():
            _, protocol = side.loop.run_until_complete(side.loop.create_connection(End, sock=sock))
            made.append(protocol)
        made[0].peer, made[1].peer = made[1], made[0]
        side.ends += made
        return stateful.multiple(*made)

    @stateful.rule(end=ends, data=st.binary(max_size=3), times=st.sampled_from([0, 1, 100_000]))
    def write(self, end: End, data: bytes, times: int) -> None:
        closing = end.transport.is_closing()
        if not isinstance(attempt(lambda: end.transport.write(data * times)), Exception) and not closing:
            end.sent += data * times

    @stateful.rule(end=ends, method=st.sampled_from(["close", "abort", "write_eof"]))
    def end_it(self, end: End, method: str) -> None:
        end.touched = end.peer.touched = True
        attempt(getattr(end.transport, method))
        assert method == "write_eof" or end.transport.is_closing()

    @stateful.rule(end=ends, pause=st.booleans())
    def pause_or_resume(self, end: End, pause: bool) -> None:
        outcome = attempt(end.transport.pause_reading if pause else end.transport.resume_reading)
        if not isinstance(outcome, Exception):
            end.paused = pause

    # Loops

    @stateful.rule(side=sides, count=st.integers(1, 3))
    def turn(self, side: Side, count: int) -> None:
        for _ in range(count):
            if side.loop.is_closed():
                assert isinstance(attempt(side.loop.run_forever), RuntimeError)
            else:
                side.turn()

    @stateful.rule(side=sides, other=sides, what=st.sampled_from(["close", "run_forever"]))
    def from_inside(self, side: Side, other: Side, what: str) -> None:
        if side.loop.is_closed():
            return
        if what == "close" and other is not side:
            return
        refused: list[Any] = []
        side.loop.call_soon(lambda: refused.append(attempt(getattr(other.loop, what))))
        side.turn()
        assert isinstance(refused[0], RuntimeError)

    @stateful.rule(side=sides)
    def close(self, side: Side) -> None:
        side.loop.close()
        assert side.loop.is_closed()

    # Anything

    @stateful.rule(side=sides, method=st.sampled_from(LOOP_METHODS), arguments=st.lists(ANYTHING, max_size=4))
    def misuse_loop(self, side: Side, method: str, arguments: list[Any]) -> None:
        attempt(lambda: getattr(side.loop, method)(*arguments))

    @stateful.rule(end=ends, method=st.sampled_from(TRANSPORT_METHODS), arguments=st.lists(ANYTHING, max_size=2))
    def misuse_transport(self, end: End, method: str, arguments: list[Any]) -> None:
        attempt(lambda: getattr(end.transport, method)(*arguments))

    @stateful.invariant()
    def what_arrives_was_sent(self) -> None:
        for side in self.all:
            assert len(set(side.timers_ran)) == len(side.timers_ran)
            assert side.never.isdisjoint(side.timers_ran)
            for end in side.ends:
                assert end.peer.sent.startswith(end.received)
                assert end.made == 1
                assert end.lost <= 1

    def teardown(self) -> None:
        try:
            for side in self.all:
                if not side.loop.is_closed():
                    self.finish(side)
            self.what_arrives_was_sent()
        finally:
            for side in self.all:
                side.loop.set_exception_handler(None)
                side.loop.close()

    def finish(self, side: Side) -> None:
        """What nobody has disturbed arrives; what is closed is lost."""
        untouched = [end for end in side.ends if not end.touched]
        for end in untouched:
            end.peer.paused = False
            attempt(end.peer.transport.resume_reading)
        for _ in range(MOST_TURNS):
            if all(end.peer.received == end.sent for end in untouched):
                break
            side.turn()
        assert all(end.peer.received == end.sent for end in untouched)
        for end in side.ends:
            end.transport.abort()
        for _ in range(3):
            side.turn()
        assert all(end.lost == 1 for end in side.ends)


def main() -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda _: None
    name, examples, *rest = sys.argv[1:]
    phases = [hypothesis.Phase.generate]
    if "random" in rest:
        phases.append(hypothesis.Phase.shrink)
    Machine.factory = staticmethod(FACTORIES[name])  # type: ignore[assignment]
    settings = hypothesis.settings(
        max_examples=int(examples),
        stateful_step_count=STEPS,
        derandomize="random" not in rest,
        phases=phases,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    stateful.run_state_machine_as_test(Machine, settings=settings)
    gc.collect()
    print("alive after", examples, "examples")


if __name__ == "__main__":
    main()
