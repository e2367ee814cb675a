"""The tests that cannot apply, from `left_out/VERSION.toml`: by id, each with its reason.

    ["test_events.HandleTests"]                     # module and class
    test_repr = "reads Handle._repr_info"            # test = reason
    test_new = { reason = "...", since = "3.13.3" }  # for some micro versions of Python: since, before

It is the only way to leave a test out. An entry whose test does not exist, or passes, is an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # what pytest itself needs on 3.10
    import tomli as tomllib

FOLDER = Path(__file__).resolve().parent / "left_out"


def file_of(version: tuple[int, ...]) -> Path:
    return FOLDER / f"{version[0]}.{version[1]}.toml"


def read(version: tuple[int, ...]) -> dict[str, str]:
    """The reason for each test that is left out on this version (major, minor, micro) of Python."""
    file = file_of(version)
    if not file.exists():
        return {}
    reasons = {}
    for owner, entries in tomllib.loads(file.read_text()).items():
        for test, entry in entries.items():
            if isinstance(entry, str):
                reasons[f"{owner}.{test}"] = entry
            elif _number(entry.get("since", "0")) <= version < _number(entry.get("before", "99")):
                reasons[f"{owner}.{test}"] = entry["reason"]
    return reasons


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
