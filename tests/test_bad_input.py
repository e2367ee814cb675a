"""Anything anywhere: an exception or a result, never a crash."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import sys
import textwrap

import ironloop
import pytest
from ironloop import _native

CLASSES = [_native.LoopCore, _native.Handle, _native.TimerHandle, _native.StreamTransport, _native.Listener]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("arguments", [(), (1,), (None, None, None), ("a", "b", "c", "d", "e", "f")])
def test_classes_can_be_called_with_anything(cls, arguments):
    try:
        made = cls(*arguments)
    except (TypeError, ValueError):
        return
    assert isinstance(made, _native.LoopCore)


def test_every_method_survives_every_kind_of_argument():
    """In a process of its own, since the point is that it does not die."""
    body = textwrap.dedent(
        """
        import asyncio, gc, itertools, socket, warnings
        import ironloop
        from ironloop import _native
        warnings.simplefilter("ignore")
        VALUES = [None, -1, 0, 2**70, 1.5, float("nan"), "x", b"x", [], {}, (), print, object(), int, memoryview(b"")]
        left = socket.socketpair()

        def subjects():
            loop = ironloop.new_event_loop()
            sock, peer = socket.socketpair()
            sock.setblocking(False)
            transport = _native.StreamTransport(loop, sock, asyncio.Protocol())
            return loop, [loop, loop.call_soon(print), loop.call_later(9, print), transport], (sock, peer)

        SKIPPED = {"run_forever", "run_until_complete", "_run_once", "__class__", "__init_subclass__",
                   "__subclasshook__", "__del__", "__reduce__", "__reduce_ex__", "__new__"}
        calls = 0
        for index in range(4):
            loop, objects, socks = subjects()
            names = [name for name in dir(type(objects[index])) if name not in SKIPPED]
            for name in names:
                for count in range(4):
                    arguments = list(itertools.islice(itertools.product(VALUES, repeat=count), 0, 60))
                    for chosen in arguments:
                        try:
                            method = getattr(objects[index], name)
                            result = method(*chosen) if callable(method) else method
                            if asyncio.iscoroutine(result):
                                result.close()
                        except (SystemExit, KeyboardInterrupt):
                            raise
                        except BaseException:
                            pass
                        calls += 1
            if not loop.is_closed():
                loop._thread_id = None
                loop._debug = False
                loop.set_exception_handler(lambda *a: None)
                loop.call_soon(loop.stop)
                try:
                    loop.run_forever()
                except BaseException:
                    pass
            loop._thread_id = None
            loop.close()
            gc.collect()
        print("alive after", calls > 10000)
        """
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=55)
    assert done.stdout.strip().endswith("alive after True"), (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_transport_needs_a_loop_and_an_open_socket():
    import socket

    loop = ironloop.new_event_loop()
    sock = socket.socket()
    sock.close()
    with pytest.raises(ValueError, match="the socket is closed"):
        _native.StreamTransport(loop, sock, asyncio.Protocol())
    with pytest.raises(TypeError):
        _native.StreamTransport(asyncio.Protocol(), sock, asyncio.Protocol())
    with pytest.raises((TypeError, AttributeError)):
        _native.StreamTransport(loop, "no socket", asyncio.Protocol())
    loop.close()


def test_signatures_can_be_inspected():
    for cls in CLASSES:
        for name, member in inspect.getmembers(cls, callable):
            if not name.startswith("_"):
                assert inspect.signature(member), name


def test_a_server_needs_a_socket_with_a_descriptor(loop):
    class Hollow:
        type = socket.SOCK_STREAM
        family = socket.AF_INET

        def __getattr__(self, _name):
            return lambda *_args: None

    with pytest.raises(ValueError, match="Invalid file object"):
        loop.run_until_complete(loop.create_server(asyncio.Protocol, sock=Hollow()))
