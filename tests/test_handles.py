"""Handle and TimerHandle: what a program can see of a scheduled callback."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import weakref

import pytest


def callback(*_args):
    pass


def handles(loop):
    return loop.call_soon(callback, 1, 2), loop.call_later(100, callback, 1, 2)


def test_handles_are_instances_of_asyncios_classes(loop):
    handle, timer = handles(loop)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.Handle)
    assert isinstance(loop.call_soon_threadsafe(callback), asyncio.Handle)


def test_cancel_is_idempotent_and_drops_the_callback(loop):
    for handle in handles(loop):
        assert not handle.cancelled()
        assert handle._callback is callback
        assert handle._args == (1, 2)
        assert handle.cancel() is None
        assert handle.cancel() is None
        assert handle.cancelled()
        assert handle._cancelled
        assert handle._callback is None
        assert handle._args is None


@pytest.mark.parametrize("debug", [False, True])
def test_the_repr_is_that_of_cpythons_loop(loop_factory, debug):
    import ironloop

    texts = []
    for loop in (asyncio.SelectorEventLoop(), ironloop.new_event_loop()):
        loop.set_debug(debug)
        made = [
            loop.call_soon(callback, 1, 2),
            loop.call_at(5, callback),
            loop.call_soon(print, "x"),
            loop.call_at(7.5, print),
        ]
        text = [repr(handle) for handle in made]
        for handle in made:
            handle.cancel()
        texts.append(text + [repr(handle) for handle in made])
        loop.close()
    assert texts[0] == texts[1]


def test_handles_can_be_referenced_weakly(loop):
    for handle in handles(loop):
        assert weakref.ref(handle)() is handle


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_the_context_can_be_asked_for(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(callback, context=context).get_context() is context
    assert loop.call_later(1, callback, context=context).get_context() is context
    assert isinstance(loop.call_soon(callback).get_context(), contextvars.Context)


def test_timers_compare_by_their_deadline(loop):
    early, late = loop.call_at(1000, callback), loop.call_at(2000, callback)
    same = loop.call_at(1000, callback)
    assert early < late
    assert early <= late
    assert late > early
    assert late >= early
    assert early == same
    assert early != late
    assert (early != same) is False
    assert hash(early) == hash(same)
    assert early != 1000
    with pytest.raises(TypeError):
        assert early < 1000
    other = loop.call_at(1000, print)
    assert early != other


def test_timers_of_the_two_loops_compare():
    import ironloop

    one, two = asyncio.SelectorEventLoop(), ironloop.new_event_loop()
    assert one.call_at(1, callback) < two.call_at(2, callback)
    assert two.call_at(1, callback) < one.call_at(2, callback)
    assert two.call_at(1, callback) == one.call_at(1, callback)
    one.close()
    two.close()


def test_a_timer_knows_whether_it_is_scheduled(loop):
    timer = loop.call_later(100, callback)
    assert timer._scheduled
    fired = loop.call_later(0, loop.stop)
    loop.run_forever()
    assert not fired._scheduled
    assert fired._callback is not None


def test_run_calls_the_callback_and_reports_what_it_raises(loop, reports):
    seen = []
    loop.call_soon(seen.append, 1)._run()
    assert seen == [1]
    handle = loop.call_soon(lambda: 1 / 0)
    handle._run()
    (report,) = reports
    assert report["handle"] is handle
    assert isinstance(report["exception"], ZeroDivisionError)
    handle.cancel()


def test_the_source_traceback_exists_in_debug_mode_only(loop):
    assert handles(loop)[0]._source_traceback is None
    loop.set_debug(True)
    for handle in handles(loop):
        assert handle._source_traceback[-1].name == "handles"


def test_a_handle_cannot_be_made_without_a_loop():
    from ironloop import _native

    for cls in (_native.Handle, _native.TimerHandle):
        with pytest.raises(TypeError):
            cls()


THREAD_SAFE = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")


@THREAD_SAFE
@pytest.mark.parametrize("ask", ["cancel", "cancelled"])
def test_another_thread_waits_for_a_callback_that_runs(loop, ask):
    started, go_on = threading.Event(), threading.Event()
    seen = []

    def running():
        started.set()
        assert go_on.wait(20)
        seen.append("callback over")

    def other():
        handle = loop.call_soon_threadsafe(running)
        assert isinstance(handle, asyncio.events._ThreadSafeHandle)
        assert started.wait(20)
        threading.Timer(0.02, go_on.set).start()
        seen.append(getattr(handle, ask)())
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == ["callback over", None if ask == "cancel" else False]


@THREAD_SAFE
@pytest.mark.parametrize("debug", [False, True])
def test_another_thread_cancels_what_has_not_started(loop, debug):
    loop.set_debug(debug)
    ran = []

    def other():
        handle = loop.call_soon_threadsafe(ran.append, 1)
        handle.cancel()
        assert handle.cancelled()
        assert "cancelled" in repr(handle)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    loop.run_forever()
    assert ran == []


@THREAD_SAFE
def test_a_callback_cancels_its_own_thread_safe_handle(loop, reports):
    handle = loop.call_soon_threadsafe(lambda: (handle.cancel(), 1 / 0))
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    (context,) = reports
    assert context["handle"] is handle
    assert isinstance(context["exception"], ZeroDivisionError)
    assert handle.cancelled()
    assert (handle._callback, handle._args, handle._loop) == (None, None, loop)
