"""Fixtures of the tests that run docs/integrations.md.

A module names the packages that it cannot do without in NEEDS; its tests skip if one is missing, or fail with
IRONLOOP_REQUIRE_PEERS=1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.programs import package, reserved_port


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them are slow, and what the packages call that is deprecated is their own affair."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture(scope="module", autouse=True)
def _needed(request: pytest.FixtureRequest) -> None:
    # Before the descriptors are counted: imports may keep some open.
    for name in request.module.NEEDS:
        package(name)


@pytest.fixture
def port() -> int:
    return reserved_port()
