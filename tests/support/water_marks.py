"""Water marks of buffers, which all transports set in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024


def assert_water_marks_can_be_set(
    marks: Callable[[], tuple[int, int]], set_marks: Callable[..., None], low: int = 16 * KIB, high: int = 64 * KIB
) -> None:
    """`low` and `high` are what they are until somebody sets them, and again in the end."""
    assert marks() == (low, high)
    set_marks(high=1000)
    assert marks() == (250, 1000)
    set_marks(low=100)
    assert marks() == (100, 400)
    set_marks(high=0)
    assert marks() == (0, 0)
    for bad_high, bad_low in ((1, 2), (-1, None), (None, -5)):
        with pytest.raises(ValueError, match="must be >= low"):
            set_marks(high=bad_high, low=bad_low)
    set_marks()
    assert marks() == (low, high)
