"""`ironloop.trace`: a file of what ran, and when."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import ironloop
import pytest

from tests.support import traced


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.json"


def events(path, category):
    trace = json.loads(path.read_text())
    assert trace["displayTimeUnit"] == "ms"
    return [event for event in trace["traceEvents"] if event.get("cat") == category]


def test_callbacks_and_tasks_are_in_the_trace_under_their_names(loop, path):
    async def main():
        loop.call_soon(time.sleep, 0.002)
        await asyncio.sleep(0.01)

    with ironloop.trace(path, loop):
        loop.run_until_complete(loop.create_task(main(), name="the task"))
    callbacks = events(path, "callback")
    (sleep,) = [event for event in callbacks if "sleep" in event["name"]]
    assert sleep["dur"] >= 2000
    assert any("the task" in event["name"] for event in callbacks)


def test_events_of_a_row_follow_each_other(loop, path):
    async def main():
        for _ in range(20):
            await asyncio.sleep(0)

    with ironloop.trace(path, loop):
        loop.run_until_complete(main())
    for row in (events(path, "callback"), [event for event in events(path, "loop") if event["name"] == "turn"]):
        assert len(row) >= 20
        for before, after in itertools.pairwise(row):
            # Times are in microseconds, floating point.
            assert before["ts"] + before["dur"] <= after["ts"] + 0.01


def test_a_turn_contains_its_poll_and_its_callbacks(loop, path):
    with ironloop.trace(path, loop):
        loop.run_until_complete(asyncio.sleep(0.001))
    turns = [event for event in events(path, "loop") if event["name"] == "turn"]
    polls = [event for event in events(path, "loop") if event["name"] == "poll"]
    inside = polls + events(path, "callback")
    assert polls
    for event in inside[:-1]:  # the last callback stops the loop
        assert any(turn["ts"] <= event["ts"] + 0.01 and event["ts"] <= turn["ts"] + turn["dur"] for turn in turns)


def test_io_is_in_the_trace(loop, path):
    loop.run_until_complete(traced.echo(path))
    sources = {event["name"].split()[0] for event in events(path, "I/O")}
    assert "<StreamTransport" in sources
    assert any(name.startswith("<Listener") for name in sources)
    assert sum(event["args"]["events"] for event in events(path, "loop") if event["name"] == "poll") >= 2


def test_nothing_is_traced_before_and_after(loop, path):
    def before_or_after():
        pass

    loop.call_soon(before_or_after)
    loop.run_until_complete(asyncio.sleep(0))
    with ironloop.trace(path, loop):
        pass
    loop.call_soon(before_or_after)
    loop.run_until_complete(asyncio.sleep(0))
    assert events(path, "callback") == []


def test_an_exception_in_the_block_still_writes_the_trace(loop, path):
    with pytest.raises(ZeroDivisionError), ironloop.trace(path, loop):
        loop.run_until_complete(asyncio.sleep(0))
        raise ZeroDivisionError
    assert events(path, "callback")


def test_debug_mode_and_a_trace_go_together(loop, path, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    with ironloop.trace(path, loop):
        loop.call_soon(time.sleep, 0.002)
        loop.run_until_complete(asyncio.sleep(0))
    assert "Executing <Handle sleep" in caplog.text
    assert loop.get_debug()
    assert events(path, "callback")


def test_a_trace_alone_logs_nothing_slow(loop, path, caplog):
    loop.slow_callback_duration = 0.001
    with ironloop.trace(path, loop):
        loop.call_soon(time.sleep, 0.002)
        loop.run_until_complete(asyncio.sleep(0))
    assert caplog.text == ""


def test_one_trace_at_a_time(loop, path, tmp_path):
    with ironloop.trace(path, loop):
        with pytest.raises(RuntimeError, match="being kept already"):
            ironloop.trace(tmp_path / "other.json", loop).__enter__()


def test_wrong_loops_and_paths(loop, path, tmp_path):
    with pytest.raises(RuntimeError, match="no running event loop"):
        ironloop.trace(path).__enter__()
    other = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match=r"ironloop\.Loop"):
        ironloop.trace(path, other).__enter__()
    other.close()
    with pytest.raises(FileNotFoundError):
        ironloop.trace(tmp_path / "missing" / "trace.json", loop).__enter__()
    assert loop._trace is None
