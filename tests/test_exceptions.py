"""Errors of callbacks: one path to the exception handler, in CPython's words."""

from __future__ import annotations

import asyncio
import gc

import pytest


def failing():
    raise ValueError("from a callback")


@pytest.mark.parametrize("schedule", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_an_exception_of_a_callback_reaches_the_handler(loop, reports, schedule):
    arguments = [0] if schedule in ("call_later", "call_at") else []
    handle = getattr(loop, schedule)(*arguments, failing)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    (report,) = reports
    assert report["message"].startswith("Exception in callback failing()")
    assert str(report["exception"]) == "from a callback"
    assert report["exception"].__traceback__ is not None
    assert report["handle"] is handle


def test_the_callbacks_behind_a_failing_one_still_run(loop, reports):
    seen = []
    loop.call_soon(failing)
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1]
    assert len(reports) == 1


def test_the_default_handler_logs_what_cpython_logs(caplog):
    import ironloop

    texts = []
    for loop in (asyncio.SelectorEventLoop(), ironloop.new_event_loop()):
        caplog.clear()
        loop.call_soon(failing)
        loop.call_soon(loop.stop)
        loop.run_forever()
        (record,) = caplog.records
        assert record.exc_info[0] is ValueError
        texts.append(record.getMessage())
        loop.close()
    assert texts[0] == texts[1]


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("delay", [None, 0])
def test_exits_leave_the_run_and_the_loop_goes_on(loop, reports, exception, delay):
    seen = []

    def leave():
        raise exception("leave")

    if delay is None:
        loop.call_soon(leave)
    else:
        loop.call_later(delay, leave)
    loop.call_soon(seen.append, "same turn") if delay is None else None
    with pytest.raises(exception):
        loop.run_forever()
    assert not loop.is_running()
    assert reports == []
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == (["same turn"] if delay is None else [])


def test_what_was_due_with_an_exit_runs_in_the_next_run(loop):
    import socket

    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.send(b"x")
        seen = []

        def leave():
            raise KeyboardInterrupt

        loop.call_soon(leave)
        loop.add_reader(left, lambda: seen.append(left.recv(10)))
        loop.call_later(-1, seen.append, "timer")
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        loop.remove_reader(left)
    assert seen == [b"x", "timer"]


def test_the_handler_gets_the_loop_and_the_context(loop):
    seen = []
    loop.set_exception_handler(lambda *arguments: seen.append(arguments))
    context = {"message": "hello"}
    loop.call_exception_handler(context)
    assert seen == [(loop, context)]
    assert loop.get_exception_handler() is not None
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError):
        loop.set_exception_handler("no callable")


def test_a_handler_that_raises_is_logged(loop, caplog):
    def bad(_loop, _context):
        raise TypeError("bad handler")

    loop.set_exception_handler(bad)
    loop.call_soon(failing)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert "Unhandled error in exception handler" in caplog.text
    assert "bad handler" in caplog.text


def test_a_handler_may_end_the_run(loop):
    def leave(_loop, _context):
        raise SystemExit(3)

    loop.set_exception_handler(leave)
    loop.call_soon(failing)
    with pytest.raises(SystemExit):
        loop.run_forever()


def test_an_overridden_handler_method_is_honoured(loop):
    seen = []
    loop.call_exception_handler = seen.append
    loop.call_soon(failing)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen[0]["message"].startswith("Exception in callback failing()")


def test_a_forgotten_exception_of_a_task_is_reported(run, reports):
    async def main():
        task = asyncio.ensure_future(asyncio.sleep(0, 1 / 1))
        await task
        asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()

    async def fail():
        raise ValueError("forgotten")

    run(main)
    assert [report["message"] for report in reports] == ["Task exception was never retrieved"]
