"""Debug mode: what it catches and how it says so."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings

import ironloop
import pytest


def test_a_slow_callback_is_named(loop, caplog):
    def slow_one():
        time.sleep(0.02)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(slow_one)
    loop.call_soon(loop.stop)
    loop.run_forever()
    text = caplog.text
    assert "Executing <Handle" in text
    assert "slow_one" in text
    assert "seconds" in text


def test_a_logger_that_replaces_asyncios_gets_the_warning(loop, monkeypatch):
    warnings_seen = []

    class Logger:
        def warning(self, text, *args):
            warnings_seen.append(text % args)

        def __getattr__(self, _name):
            return lambda *_args, **_options: None

    monkeypatch.setattr("asyncio.base_events.logger", Logger())
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert any(text.startswith("Executing <Handle") for text in warnings_seen)


def test_a_slow_task_is_named(loop, caplog):
    async def slow_task():
        time.sleep(0.02)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.run_until_complete(slow_task())
    assert "Executing <Task" in caplog.text
    assert "slow_task" in caplog.text


def test_a_slow_timer_is_named(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_later(0, time.sleep, 0.02)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert "Executing <TimerHandle" in caplog.text


def test_a_failed_task_is_reported_at_once(run, loop, reports):
    """Nothing keeps a task whose result nobody will ask for: not the handle, not the traceback."""

    async def fail():
        raise ValueError("nobody asks")

    async def main():
        loop.set_debug(True)
        asyncio.Task(fail())
        await asyncio.sleep(0)
        assert [str(context["exception"]) for context in reports] == ["nobody asks"]

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_calls_from_a_wrong_thread_are_caught(loop):
    loop.set_debug(True)
    caught = []

    def wrong():
        for call in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(0, print),
            lambda: loop.call_at(0, print),
        ):
            try:
                call()
            except RuntimeError as error:
                caught.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=wrong)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert len(caught) == 3
    assert all("Non-thread-safe operation" in text for text in caught)


def test_a_call_without_any_python_frame_does_no_harm(loop):
    """A thread without code of Python's calls straight into the loop, which notes the caller's stack in debug mode."""
    loop.set_debug(True)
    for _ in range(10):
        _thread.start_new_thread(loop.call_soon_threadsafe, (loop.stop,))
        loop.run_forever()


def test_what_is_no_callback_is_refused(loop):
    loop.set_debug(True)

    async def coroutine_function():
        pass

    for method, arguments in (("call_soon", ()), ("call_soon_threadsafe", ()), ("call_later", (1,)), ("call_at", (1,))):
        with pytest.raises(TypeError, match="a callable object was expected by"):
            getattr(loop, method)(*arguments, "no callable")
        with pytest.raises(TypeError, match="coroutines cannot be used with"):
            getattr(loop, method)(*arguments, coroutine_function)


def test_debug_mode_can_be_switched_while_running(run, loop):
    async def main():
        assert not loop.get_debug()
        loop.set_debug(True)
        assert loop.get_debug()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sys.get_coroutine_origin_tracking_depth() > 0
        loop.set_debug(False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sys.get_coroutine_origin_tracking_depth() == 0

    run(main)


def test_an_unclosed_loop_warns(loop_factory):
    loop = loop_factory()
    loop.call_soon(print, loop)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    assert "unclosed event loop" in " ".join(str(warning.message) for warning in caught)


def test_an_unclosed_transport_warns_and_is_closed(loop_factory):
    loop = loop_factory()

    async def main():
        accepted = asyncio.Event()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.set()

        server = await loop.create_server(Accepted, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        await accepted.wait()
        server.close()
        return transport

    transport = loop.run_until_complete(main())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        del transport
        gc.collect()
    # Both ends: the client's, and the server's that nobody holds.
    assert sum("unclosed transport <" in str(warning.message) for warning in caught) == 2
    assert all(warning.category is ResourceWarning for warning in caught)


def test_a_coroutine_that_was_never_awaited_says_where_it_was_made(loop):
    async def forgotten():
        pass

    async def careless():
        forgotten()

    loop.set_debug(True)
    with pytest.warns(RuntimeWarning, match=r"(?s)forgotten' was never awaited\nCoroutine created at.*in careless"):
        loop.run_until_complete(careless())


@pytest.mark.parametrize("switch", [["-X", "dev"], []])
def test_the_interpreters_switches_turn_it_on(switch):
    code = "import ironloop; loop = ironloop.new_event_loop(); print(loop.get_debug()); loop.close()"
    environment = dict(os.environ, PYTHONASYNCIODEBUG="" if switch else "1")
    done = subprocess.run([sys.executable, *switch, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "True", done.stderr


def test_a_slow_transport_is_logged(caplog):
    loop = ironloop.new_event_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    class Slow(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.02)
            done.set()

    done = asyncio.Event()

    async def main():
        server = await loop.create_server(Slow, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write(b"x")
        await done.wait()
        transport.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    loop.close()
    assert "Executing <StreamTransport" in caplog.text
