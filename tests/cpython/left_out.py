"""The tests that cannot apply, from `left_out/VERSION.toml`: by id, each with its reason.

    ["test_events.HandleTests"]                     # module and class
    test_repr = "reads Handle._repr_info"            # test = reason
    test_new = { reason = "...", since = "3.13.3" }  # for some micro versions of Python: since, before
    test_first = { reason = "...", in_place = true } # runs among the others: one of them needs what it leaves behind

It is the only way to leave a test out. An entry whose test does not exist, or passes, is an error.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # what pytest itself needs on 3.10
    import tomli as tomllib

FOLDER = Path(__file__).resolve().parent / "left_out"


def file_of(version: tuple[int, ...]) -> Path:
    return FOLDER / f"{version[0]}.{version[1]}.toml"


@dataclasses.dataclass(frozen=True)
class Entry:
    """Why a test is left out."""

    reason: str
    in_place: bool = False
    """Whether it runs where CPython runs it, not in a process of its own at the end."""


def read(version: tuple[int, ...]) -> dict[str, Entry]:
    """The tests that are left out on this version (major, minor, micro) of Python, by id."""
    file = file_of(version)
    if not file.exists():
        return {}
    found = {}
    for owner, entries in tomllib.loads(file.read_text()).items():
        for test, entry in entries.items():
            if isinstance(entry, str):
                found[f"{owner}.{test}"] = Entry(entry)
            elif _number(entry.get("since", "0")) <= version < _number(entry.get("before", "99")):
                found[f"{owner}.{test}"] = Entry(entry["reason"], entry.get("in_place", False))
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
