"""Fixtures of the TLS tests: certificates, and where CPython's own TLS is no judge."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.tls.certificates import Certificates


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls_is_cpythons(loop_name: str) -> bool:
    """asyncio's is, and so was ironloop's until it had one of its own."""
    return loop_name == "asyncio" or importlib.util.find_spec("ironloop._tls") is None


@pytest.fixture
def modern(loop_name: str) -> None:
    """For what CPython's own TLS does since 3.11, when it took over uvloop's protocol."""
    if tls_is_cpythons(loop_name) and sys.version_info < (3, 11):
        pytest.skip("CPython's TLS was another one before 3.11")


@pytest.fixture
def better(loop_name: str) -> None:
    """For what ironloop's TLS does better than CPython's."""
    if tls_is_cpythons(loop_name):
        pytest.skip("CPython's TLS does not do this")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before 3.11 CPython's TLS transport calls itself unclosed although its connection was lost."""
    if sys.version_info < (3, 11):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"))
