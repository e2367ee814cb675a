"""Fixtures of the tests with real peers: the programs openssl, curl, nginx, PostgreSQL, the packages of `test-peers`.

Both TLS layers are tested by running the folder twice, once with IRONLOOP_TLS=fallback. With IRONLOOP_REQUIRE_PEERS=1 a
peer that is missing is a failure, not a reason to skip.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.peers.certificates import PeerCertificates
from tests.peers.programs import program
from tests.tls.conftest import better as better
from tests.tls.conftest import modern as modern


@pytest.fixture(scope="session")
def openssl() -> str:
    return program("openssl")


@pytest.fixture(scope="session")
def tls(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> PeerCertificates:
    return PeerCertificates(tmp_path_factory.mktemp("certificates"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them are slow, and what the packages call that is deprecated is their own affair.

    Before 3.11 CPython's TLS transport calls itself unclosed although it was lost.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
            if sys.version_info < (3, 11):
                item.add_marker(pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"))


@pytest.fixture(scope="session")
def body() -> bytes:
    """Eight mebibytes that do not repeat."""
    return random.Random(1).randbytes(8 << 20)
