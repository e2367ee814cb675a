"""Calls everything that the native module has with everything: the program of tests/test_fuzz.py.

    python fuzz.py SEED STEPS [FIRST]

The same seed makes the same calls in the same order, so a crash can be repeated; the number and the text of the step
under way are in the file that IRONLOOP_FUZZ_LOG names. With FIRST the steps before it only choose, and call nothing.
Exceptions are fine; what is not: a crash, a hang, a SystemError.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import contextvars
import copy
import faulthandler
import gc
import inspect
import os
import pickle
import random
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ironloop
from ironloop import _native

CLASSES = sorted(
    (one for one in vars(_native).values() if isinstance(one, type) and one.__module__ == "ironloop._native"),
    key=lambda cls: cls.__name__,
)
# Ends with a call of the loop's methods that run it; `_bounded` sees to it that they return.
RUNS = {"run_forever", "run_until_complete", "_run_once"}
# What ends the process or the thread, by design.
LEFT_OUT = {"__init_subclass__", "__subclasshook__", "__class_getitem__"}


class Liar:
    """Says yes to everything, with something of the wrong kind."""

    def __init__(self, chance: random.Random) -> None:
        # Of its own: how often it is asked must not change the steps to come.
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._chance.choice([None, 5, b"x", repr, self])

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        return self

    def __index__(self) -> Any:
        return self._chance.choice([-1, 10**30])

    def __bool__(self) -> bool:
        raise ArithmeticError("no truth")

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("no equality")

    def __await__(self) -> Iterator[Any]:
        return iter([1])

    def fileno(self) -> Any:
        return self._chance.choice(["three", -1, 10**6, 2**40, None])


def shown(values: tuple[Any, ...]) -> str:
    """What can be said of values without running code of theirs."""
    simple = (int, float, str, bytes, type(None))
    return "(" + ", ".join(f"{one!r:.40}" if type(one) in simple else type(one).__name__ for one in values) + ")"


class Fuzz:
    def __init__(self, seed: int, log: int) -> None:
        self.chance = random.Random(seed)
        self.log = log
        self.loops: list[Any] = []
        self.closing: list[Any] = []
        self.sockets: list[socket.socket] = []
        self.files: list[Any] = []

    # What things are called with

    def value(self) -> Any:
        chance = self.chance
        makers: list[Callable[[], Any]] = [
            lambda: None,
            lambda: chance.choice([True, False, 0, 1, -1, 7, 2**31, 2**64, -(2**63), 10**30]),
            lambda: chance.choice([0.0, -1.5, 1e300, float("nan"), float("inf")]),
            lambda: chance.choice(["", "x", "socket", "peername", "\0", "\ud800", "a" * 1000]),
            lambda: chance.choice([b"", b"x", bytes(100_000), bytearray(b"abc"), memoryview(b"abcdef")[::2]]),
            lambda: memoryview(array.array("d", [1, 2])),
            lambda: chance.choice([[], [1], (), ("127.0.0.1", 0), {}, {"a": 1}, {1}, [b"x", "y"], iter([b"x", 5])]),
            lambda: chance.choice([repr, len, int, object(), type, Liar, Exception, ValueError("x")]),
            lambda: Liar(random.Random(chance.random())),
            lambda: chance.choice([asyncio.Protocol(), asyncio.BufferedProtocol(), asyncio.DatagramProtocol()]),
            lambda: chance.choice([contextvars.copy_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]),
            lambda: self.sockets[-1] if self.sockets else None,
            lambda: self.loops[-1] if self.loops else None,
            lambda: chance.choice(CLASSES),
        ]
        return chance.choice(makers)()

    def arguments(self, most: int = 5) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positional = tuple(self.value() for _ in range(self.chance.randrange(most + 1)))
        keywords = {}
        if self.chance.random() < 0.2:
            name = self.chance.choice(["context", "extra", "server", "name", "callback", "delay", "nonsense", "sock"])
            keywords[name] = self.value()
        return positional, keywords

    # What is called

    def new_loop(self) -> Any:
        loop = ironloop.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        self.loops.append(loop)
        return loop

    def pair(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        left, right = socket.socketpair(type=kind)
        left.setblocking(False)
        right.setblocking(False)
        self.sockets += [right, left]
        return left

    def pipe(self, end: int) -> Any:
        fds = os.pipe()
        files = [os.fdopen(fds[0], "rb", 0), os.fdopen(fds[1], "wb", 0)]
        self.files += files
        return files[end]

    def instance(self, cls: type) -> Any:
        """A working object of the class."""
        loop = self.new_loop()
        loop.set_debug(self.chance.random() < 0.2)
        name = cls.__name__
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        if name == "LoopCore":
            return loop
        if name == "Handle":
            return loop.call_soon(len, "x")
        if name == "TimerHandle":
            return loop.call_later(self.chance.choice([0, 1000]), len, "x")
        if name == "StreamTransport":
            return _native.StreamTransport(loop, self.pair(), asyncio.Protocol())
        if name == "DatagramTransport":
            return _native.DatagramTransport(loop, self.pair(socket.SOCK_DGRAM), asyncio.DatagramProtocol())
        if name == "ReadPipeTransport":
            return _native.ReadPipeTransport(loop, self.pipe(0), asyncio.Protocol())
        if name == "WritePipeTransport":
            return _native.WritePipeTransport(loop, self.pipe(1), asyncio.BaseProtocol())
        if name == "Listener":
            sock = socket.create_server(("127.0.0.1", 0))
            sock.setblocking(False)
            self.sockets.append(sock)
            return _native.Listener(loop, sock, asyncio.Protocol, None, 5, None, None, None)
        tls = _native.TlsConnection(loop, asyncio.Protocol(), context, None, False, None)
        if name == "TlsTransport" or self.chance.random() < 0.5:
            _native.StreamTransport(loop, self.pair(), tls)
        return tls if name == "TlsConnection" else tls._app_transport

    def names(self, cls: type) -> list[str]:
        owner = ironloop.Loop if cls.__name__ == "LoopCore" else cls
        return sorted(name for name in dir(owner) if name not in LEFT_OUT)

    # Steps

    def step(self, number: int, first: int) -> None:
        cls = self.chance.choice(CLASSES)
        kind = self.chance.choices(["construct", "call", "set", "protocol"], [2, 10, 2, 1])[0]
        actions = {"construct": self.construct, "call": self.call, "set": self.set, "protocol": self.protocol}
        text, action = actions[kind](cls)
        if number < first:
            return
        os.ftruncate(self.log, 0)
        os.pwrite(self.log, f"step {number}: {text}".encode(errors="replace"), 0)
        try:
            action()
        except SystemError as error:
            raise AssertionError(f"step {number}: {text}: {error!r}") from error
        except BaseException as error:
            # The text of an exception may be made lazily.
            with contextlib.suppress(Exception):
                str(error)

    def construct(self, cls: type) -> tuple[str, Callable[[], Any]]:
        positional, keywords = self.arguments(9)
        if self.chance.random() < 0.7 and cls.__name__ not in ("LoopCore", "Handle", "TimerHandle"):
            positional = (self.new_loop(), *positional)
        if self.chance.random() < 0.1:
            return f"{cls.__name__}.__new__{shown(positional)}", lambda: cls.__new__(cls, *positional)
        return f"{cls.__name__}{shown(positional)}", lambda: cls(*positional, **keywords)

    def call(self, cls: type) -> tuple[str, Callable[[], Any]]:
        subject = self.instance(cls)
        name = self.chance.choice(self.names(cls))
        positional, keywords = self.arguments()
        if self.chance.random() < 0.2:
            # In the middle of something: written to, closed, or run for a turn before.
            before = self.chance.choice(["close", "abort", "cancel", "pause_reading", "stop", "_app_transport"])
        else:
            before = ""

        def action() -> None:
            if before:
                with contextlib.suppress(Exception):
                    getattr(subject, before)()
            if name in RUNS:
                for loop in self.loops:
                    if not loop.is_closed():
                        loop.call_soon(loop.stop)
            member = getattr(subject, name)
            if callable(member):
                self.finish(member(*positional, **keywords))

        return f"{cls.__name__}.{name}{shown(positional)} after {before!r}", action

    def set(self, cls: type) -> tuple[str, Callable[[], Any]]:
        subject = self.instance(cls)
        if cls is _native.LoopCore:
            # Whose methods may be replaced so that a run never ends, which is the user's own affair.
            self.loops.remove(subject)
            self.closing.append(subject)
        name = self.chance.choice(self.names(cls))
        value = self.value()
        if name in ("__class__", "__dict__"):
            name = "note"
        if self.chance.random() < 0.2:
            return f"del {cls.__name__}.{name}", lambda: delattr(subject, name)
        return f"{cls.__name__}.{name} = {type(value).__name__}", lambda: setattr(subject, name, value)

    def protocol(self, cls: type) -> tuple[str, Callable[[], Any]]:
        subject = self.instance(cls)
        other = self.chance.choice([subject, None, 5, Liar(random.Random(self.chance.random()))])
        positional, attribute = self.arguments()[0], self.chance.choice(self.names(cls))
        operations: dict[str, Callable[[], Any]] = {
            "pickle": lambda: pickle.dumps(subject),
            "copy": lambda: copy.copy(subject),
            "deepcopy": lambda: copy.deepcopy(subject),
            "repr": lambda: repr(subject),
            "hash": lambda: hash(subject),
            "compare": lambda: (subject == other, subject < other),
            "init": lambda: subject.__init__(*positional),
            "signature": lambda: inspect.signature(getattr(subject, attribute)),
            "iterate": lambda: list(subject),
            "call": lambda: subject(1),
            "subclass": lambda: type("Sub", (cls,), {})(),
        }
        name = self.chance.choice(sorted(operations))
        return f"{name} of {cls.__name__}", operations[name]

    def finish(self, result: Any) -> None:
        """Close coroutines, which would warn; look at other results."""
        if inspect.iscoroutine(result):
            result.close()
        else:
            repr(result)

    def clean(self) -> None:
        """Run what the steps have scheduled, for some turns, and let everything go."""
        for loop in self.loops:
            with contextlib.suppress(Exception):
                loop._thread_id = None
            for _ in range(2):
                try:
                    loop.call_soon(loop.stop)
                    loop.run_forever()
                except SystemError:
                    raise
                except BaseException:
                    continue
        for loop in (*self.loops, *self.closing):
            with contextlib.suppress(BaseException):
                ironloop.Loop.close(loop)
        for thing in (*self.sockets, *self.files):
            with contextlib.suppress(OSError):
                thing.close()
        self.loops.clear()
        self.closing.clear()
        self.sockets.clear()
        self.files.clear()


def main() -> None:
    seed, steps = int(sys.argv[1]), int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    faulthandler.enable()
    log = os.open(os.environ.get("IRONLOOP_FUZZ_LOG", os.devnull), os.O_RDWR | os.O_CREAT)
    fuzz = Fuzz(seed, log)
    for number in range(steps):
        fuzz.step(number, first)
        if number % 20 == 19:
            fuzz.clean()
        if number % 200 == 199:
            gc.collect()
    fuzz.clean()
    gc.collect()
    print("alive after", steps, "steps on", len(CLASSES), "classes")


if __name__ == "__main__":
    main()
