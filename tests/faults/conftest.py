"""`faults(text)` makes system calls fail from now on, until the test ends; see src/engine/sys/faults.rs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ironloop import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

set_faults: Any = getattr(_native, "set_faults", None)


@pytest.fixture
def loop_name() -> str:
    return "ironloop"


@pytest.fixture
def faults() -> Iterator[Callable[..., None]]:
    if set_faults is None:
        pytest.skip("not a build whose system calls fail on request")

    def begin(call: str, error: str, most: int = 1) -> None:
        set_faults(f"rate=1,calls={call},errors={error},most={most}")

    set_faults("")
    yield begin
    made = dict(_native.faults_made())  # type: ignore[attr-defined]
    set_faults("")
    assert made, "no system call was made to fail"
