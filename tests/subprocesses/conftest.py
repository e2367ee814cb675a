"""After each test no child is left, running or dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.children import children

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_children_left() -> Iterator[None]:
    """No test leaves a child behind, nor a zombie."""
    before = children()
    yield
    assert children() <= before
