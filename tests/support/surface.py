"""The public surface of asyncio in the running Python, and whose code ironloop has for it.

    pairs()             our classes beside those of asyncio that they stand for
    members(class)      the public names of a class
    owner(class, name)  Rust, Python (ironloop's own), or asyncio: code of the running version, over ours

`python -m tests.support.surface` prints whose code everything is, as JSON; `docs/make_compatibility.py` makes tables
of it.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from asyncio import base_events, selector_events, sslproto, unix_events
from typing import Any

import ironloop
from ironloop import _native
from ironloop._subprocess import ProcessTransport

RUST, PYTHON, ASYNCIO, NOBODY = "Rust", "Python", "asyncio", "no"


def pairs() -> dict[str, tuple[type[Any], type[Any]]]:
    """Our class and asyncio's, by what the documentation calls it."""
    unix: Any = unix_events
    found: dict[str, tuple[type[Any], type[Any]]] = {
        "Event loop": (ironloop.Loop, asyncio.SelectorEventLoop),
        "Handle": (_native.Handle, asyncio.Handle),
        "TimerHandle": (_native.TimerHandle, asyncio.TimerHandle),
        "Server": (base_events.Server, base_events.Server),
        "Transport of a TCP or Unix stream": (_native.StreamTransport, selector_events._SelectorSocketTransport),
        "Transport of a TLS connection": (_native.TlsTransport, sslproto._SSLProtocolTransport),
        "Transport of a datagram socket": (_native.DatagramTransport, selector_events._SelectorDatagramTransport),
        "Transport of a pipe that is read": (_native.ReadPipeTransport, unix._UnixReadPipeTransport),
        "Transport of a pipe that is written": (_native.WritePipeTransport, unix._UnixWritePipeTransport),
        "Transport of a subprocess": (ProcessTransport, unix._UnixSubprocessTransport),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = getattr(asyncio, "DefaultEventLoopPolicy", None)
        if policy is not None:
            found["Policy"] = (ironloop.EventLoopPolicy, policy)
    runner = getattr(asyncio, "Runner", None)
    if runner is not None:
        found["Runner"] = (runner, runner)
    return found


def members(cls: type[Any]) -> list[str]:
    """The public names of a class, of its instances too where they are properties."""
    return [name for name in dir(cls) if not name.startswith("_")]


def owner(cls: type[Any], name: str) -> str:
    """Whose code `cls.name` is."""
    for base in cls.__mro__:
        if name in vars(base):
            if base.__module__ == "ironloop._native":
                return RUST
            return PYTHON if base.__module__.startswith("ironloop") else ASYNCIO
    return NOBODY


def owners() -> dict[str, dict[str, str]]:
    """The owner of each public name that asyncio has, by what `pairs()` calls its class."""
    return {title: {name: owner(ours, name) for name in members(theirs)} for title, (ours, theirs) in pairs().items()}


if __name__ == "__main__":
    print(json.dumps(owners()))
