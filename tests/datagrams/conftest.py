"""A Unix datagram socket and its path."""

from __future__ import annotations

import socket

import pytest

from tests.support.datagrams import plain


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.fixture
def receiver(path):
    """A Unix socket that does not read until it is told to, so that its senders have to wait."""
    with plain(path, socket.AF_UNIX) as sock:
        yield sock
