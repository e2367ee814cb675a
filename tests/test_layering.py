"""The layers of the crate: imports point downwards only, and unsafe code stays where it is allowed."""

from __future__ import annotations

import pathlib
import re

import pytest

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "src"
FORBIDDEN = {
    "engine": ["pyo3", "crate::py", "crate::asyncio"],
    "py": ["crate::asyncio"],
    "asyncio": [],
}
UNSAFE_ALLOWED = {"engine/sys", "py"}


def code_of(path):
    """The file without its comments."""
    return re.sub(r"//.*", "", path.read_text())


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_downwards(layer):
    files = sorted((SOURCE / layer).rglob("*.rs"))
    assert files
    for path in files:
        code = code_of(path)
        for name in FORBIDDEN[layer]:
            assert not re.search(rf"\b{re.escape(name)}\b", code), f"{path} uses {name}"


def test_unsafe_code_is_where_it_belongs_and_says_why():
    for path in sorted(SOURCE.rglob("*.rs")):
        relative = path.relative_to(SOURCE).as_posix()
        allowed = any(relative.startswith(f"{folder}/") for folder in UNSAFE_ALLOWED)
        if re.search(r"\bunsafe\b", code_of(path)):
            assert allowed, f"{path} has unsafe code"
            expected = re.search(r"#!\[(cfg_attr\(.+, )?expect\(unsafe_code, reason", path.read_text())
            assert expected, f"{path} does not say why"


def test_every_file_says_what_it_is():
    for path in sorted(SOURCE.rglob("*.rs")):
        header = re.match(r"(?://!.*\n)*", path.read_text())[0]
        assert header.startswith("//! "), f"{path} has no header"
        assert header.count("\n") >= 3, f"{path}: what is it, who owns it, what does it not do?"


def test_files_are_of_readable_size():
    for path in sorted(SOURCE.rglob("*.rs")):
        lines = path.read_text().split("#[cfg(test)]")[0].count("\n")
        assert lines <= 500, f"{path} has {lines} lines: which two concepts are in it?"
