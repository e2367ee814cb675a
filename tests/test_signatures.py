"""`inspect.signature` works on every public method, native ones too, and says what asyncio's own method says.

Editors, documentation and libraries that look for a parameter depend on it.
"""

from __future__ import annotations

import asyncio
import inspect
import sys

import ironloop
import pytest

from tests.support import surface

#: Whose parameters differ from those of the running asyncio, and why.
DEVIATIONS = {}
if sys.version_info < (3, 11):
    DEVIATIONS["start_tls"] = "ssl_shutdown_timeout, as in 3.11: TLS is that of 3.11 on 3.10 too"
if sys.version_info < (3, 12):
    DEVIATIONS["shutdown_default_executor"] = "timeout, as in 3.12; it is not taken before"
if (3, 13) <= sys.version_info < (3, 13, 3):
    DEVIATIONS["create_task"] = "**kwargs, as in 3.13.3; they are not taken before"


def methods(*owners):
    """Our public methods whose code is that of `owners`, and asyncio's."""
    return [
        pytest.param(getattr(ours, name), getattr(theirs, name), id=f"{title}: {name}")
        for title, (ours, theirs) in surface.pairs().items()
        for name in surface.members(theirs)
        if surface.owner(ours, name) in owners
    ]


def parameters(method):
    """Names, kinds and defaults, without `self`, of which only Python code can be given by name."""
    return [(p.name, p.kind, p.default) for p in list(inspect.signature(method).parameters.values())[1:]]


@pytest.mark.parametrize(("ours", "theirs"), methods(surface.RUST, surface.PYTHON))
def test_the_signature_is_that_of_asyncio(ours, theirs):
    if ours.__name__ in DEVIATIONS:
        assert parameters(ours) != parameters(theirs), f"no deviation any more: {DEVIATIONS[ours.__name__]}"
    else:
        assert parameters(ours) == parameters(theirs)
    # A coroutine function here is one there: `iscoroutinefunction` is what callers ask.
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


@pytest.mark.parametrize(("ours", "theirs"), methods(surface.RUST))
def test_native_methods_have_a_name_and_a_docstring(ours, theirs):
    assert ours.__name__ == theirs.__name__
    assert inspect.getdoc(ours)


def test_run_takes_what_asyncio_run_takes():
    theirs = inspect.signature(asyncio.run).parameters
    ours = inspect.signature(ironloop.run).parameters
    assert [ours[name].kind for name in theirs if name != "loop_factory"] == [
        theirs[name].kind for name in theirs if name != "loop_factory"
    ]
