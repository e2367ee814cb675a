"""call_soon, stop, contexts: what runs, in which order, in which context."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest


def test_callbacks_run_in_the_order_of_the_calls(loop):
    seen = []
    for number in range(100):
        loop.call_soon(seen.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(100))


def test_arguments_of_any_number_are_passed_on(loop):
    seen = []
    for arguments in [(), (1,), (1, 2), (1, 2, 3), tuple(range(20))]:
        loop.call_soon(lambda *a: seen.append(a), *arguments)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [(), (1,), (1, 2), (1, 2, 3), tuple(range(20))]


def test_callbacks_scheduled_by_callbacks_wait_for_the_next_turn(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "nested")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert seen == ["first", "second", "nested"]


def test_stop_lets_everything_that_is_scheduled_run_once(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(seen.append, "later"))
    loop.call_soon(seen.append, 2)
    loop.run_forever()
    assert seen == [1, 2]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2, "later"]


def test_stop_before_a_run_makes_it_one_turn(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_threadsafe_calls_of_the_loops_own_thread_keep_their_place(loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, 1)
    loop.call_soon(seen.append, 2)
    loop.call_soon_threadsafe(seen.append, 3)
    loop.call_soon(seen.append, 4)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2, 3, 4]


def test_io_runs_after_what_was_ready_and_before_timers(loop):
    import socket

    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.send(b"x")
        seen = []
        loop.add_reader(left, lambda: (seen.append("io"), loop.remove_reader(left)))
        loop.call_at(loop.time() - 1, seen.append, "timer")
        loop.call_soon(seen.append, "ready")
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
    assert seen == ["ready", "io", "timer"]


def test_a_callback_runs_in_a_copy_of_the_current_context(loop):
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def look_and_change():
        seen.append(variable.get())
        variable.set(99)

    variable.set(1)
    loop.call_soon(look_and_change)
    variable.set(2)
    loop.call_soon(look_and_change)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2]
    assert variable.get() == 2


def test_a_callback_runs_in_the_context_that_it_is_given(loop):
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    for method in (loop.call_soon, loop.call_soon_threadsafe):
        method(variable.set, 7, context=context)
    loop.call_later(0, variable.set, 8, context=context)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert context[variable] == 8
    assert variable.get() == 0


def test_a_context_that_is_entered_already_is_reported_and_the_loop_goes_on(loop, caplog):
    """From Python 3.12 on the exception handler cannot run in that context either, and that is logged."""
    context = contextvars.copy_context()
    seen = []
    loop.call_soon(print, "never", context=context)
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    context.run(loop.run_forever)
    assert seen == [1]
    assert "already entered" in caplog.text


@pytest.mark.parametrize("bad", ["call_soon", "call_soon_threadsafe"])
def test_unknown_keywords_are_refused(loop, bad):
    with pytest.raises(TypeError):
        getattr(loop, bad)(print, colour=1)
    with pytest.raises(TypeError):
        getattr(loop, bad)()


def test_the_callback_may_be_given_by_keyword(loop):
    seen = []
    loop.call_soon(callback=lambda: seen.append(1))
    loop.call_later(delay=0, callback=lambda: seen.append(2))
    loop.call_at(when=0, callback=lambda: seen.append(3))
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert sorted(seen) == [1, 2, 3]


def test_a_cancelled_callback_does_not_run_and_is_freed_at_once(loop):
    class Thing:
        def method(self):
            raise AssertionError("cancelled")

    thing = Thing()
    gone = weakref.ref(thing)
    handle = loop.call_soon(thing.method)
    handle.cancel()
    del thing
    assert gone() is None
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_callback_that_ran_is_freed_with_its_handle(loop):
    class Thing:
        def method(self):
            pass

    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_soon(thing.method)
    del thing
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.collect()
    assert gone() is None


def test_calls_of_other_threads_keep_their_order(loop):
    seen = []
    count, threads = 500, 4

    def post(name):
        for number in range(count):
            loop.call_soon_threadsafe(seen.append, (name, number))

    workers = [threading.Thread(target=post, args=(name,)) for name in range(threads)]

    async def main():
        for worker in workers:
            worker.start()
        while len(seen) < count * threads:
            await asyncio.sleep(0)
        for worker in workers:
            worker.join()

    loop.run_until_complete(main())
    for name in range(threads):
        assert [number for who, number in seen if who == name] == list(range(count))


def test_an_idle_loop_wakes_up_for_another_thread(loop):
    thread = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(loop.stop))
    thread.start()
    loop.run_forever()
    thread.join()


def test_a_closed_loop_takes_nothing(loop):
    loop.close()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.run_forever(),
        lambda: loop.add_reader(0, print),
        lambda: loop.run_in_executor(None, print),
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()


def test_a_busy_loop_still_sees_its_sockets(run):
    """Callbacks without end do not keep I/O waiting."""

    async def main():
        import socket

        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            got = loop.create_future()
            loop.add_reader(left, lambda: got.done() or got.set_result(left.recv(10)))
            for turn in range(1_000_000):
                if turn == 1000:
                    right.send(b"hello")
                if got.done():
                    break
                await asyncio.sleep(0)
            loop.remove_reader(left)
            assert got.result() == b"hello"

    run(main)


@pytest.mark.parametrize("schedule", ["call_soon", "call_soon_threadsafe", "call_later"])
@pytest.mark.parametrize("given", [None, "given"])
def test_each_callback_has_a_context_of_its_own(loop, schedule, given):
    """One without variables does not exist before somebody needs it; nobody can tell."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    def callback(name):
        seen.append(variable.get())
        variable.set(name)
        seen.append(contextvars.copy_context()[variable])

    def send():
        if given:
            variable.set(given)
        arguments = [0] if schedule == "call_later" else []
        handles = [getattr(loop, schedule)(*arguments, callback, name) for name in "ab"]
        variable.set("too late")
        loop.call_soon_threadsafe(loop.call_later, 0.001, loop.stop)
        return handles

    handles = contextvars.Context().run(send)
    before = [handle._context for handle in handles[1:]]
    loop.run_forever()
    contexts = [handle._context for handle in handles]
    assert seen == [given or "none", "a", given or "none", "b"]
    assert [context[variable] for context in contexts] == ["a", "b"]
    assert contexts[1:] == before
    assert all(type(context) is contextvars.Context for context in contexts)
    assert contexts[0] is not contexts[1]
    assert handles[0]._context is contexts[0]
    assert variable.get() == "none"
