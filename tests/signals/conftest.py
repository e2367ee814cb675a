"""Each test leaves the signals as they were."""

from __future__ import annotations

import signal

import pytest

from tests.support.signals import USED


@pytest.fixture(autouse=True)
def _dispositions():
    """Each test leaves the signals, and the descriptor that they are written to, as they were."""
    before = {number: signal.getsignal(number) for number in USED}
    yield
    assert {number: signal.getsignal(number) for number in USED} == before
    assert signal.set_wakeup_fd(-1) == -1
