"""The file that the type checkers check does what it says."""

from __future__ import annotations

import asyncio
import warnings

import ironloop

from tests.support import certificate
from tests.typed import usage


def test_what_is_type_checked_runs():
    backend = usage.start(usage.main(certificate.server_context(), certificate.client_context()))
    assert backend in ("direct", "fallback")


def test_the_policy_that_is_type_checked_makes_our_loops():
    try:
        loop = usage.install()
        assert isinstance(loop, ironloop.Loop)
        loop.close()
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(None)
