"""What we depend on: few packages, of one version each, from crates.io, under licences that deny.toml allows."""

from __future__ import annotations

import collections
import json
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: What is in the extension itself, apart from build scripts and tests.
SHIPPED = {"ironloop", "libc", "once_cell", "pyo3", "pyo3-ffi"}


@pytest.fixture(scope="module")
def metadata():
    if shutil.which("cargo") is None:
        pytest.skip("needs cargo")
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return json.loads(done.stdout)


def is_allowed(expression, allowed):
    """Whether an SPDX expression (`/` is an old OR) can be met; AND binds closer, and parentheses hold ORs only."""
    inner = re.search(r"\(([^()]*)\)", expression)
    if inner:
        value = "yes" if is_allowed(inner[1], allowed | {"yes"}) else "no"
        return is_allowed(expression.replace(inner[0], value), allowed | {"yes"})
    either = re.split(r"\s*/\s*|\s+OR\s+", expression)
    return any(all(name in allowed for name in re.split(r"\s+AND\s+", one)) for one in either)


def test_licences_are_allowed(metadata):
    allow = re.search(r"^allow = \[(.*)\]", (ROOT / "deny.toml").read_text(), re.MULTILINE)
    allowed = set(re.findall(r'"([^"]+)"', allow[1]))
    assert "MIT" in allowed
    assert not is_allowed("GPL-3.0-only", allowed)
    assert not is_allowed("(MIT OR Apache-2.0) AND GPL-3.0-only", allowed)
    wrong = {
        one["name"]: one["license"] for one in metadata["packages"] if not is_allowed(one["license"] or "", allowed)
    }
    assert wrong == {}


def test_packages_come_from_one_place_in_one_version(metadata):
    sources = {one["name"]: one["source"] for one in metadata["packages"] if one["name"] != "ironloop"}
    assert set(sources.values()) == {"registry+https://github.com/rust-lang/crates.io-index"}
    versions = collections.Counter(one["name"] for one in metadata["packages"])
    assert [name for name, count in versions.items() if count > 1] == []


def test_little_is_shipped(metadata):
    names = {one["id"]: one["name"] for one in metadata["packages"]}
    needs = {
        node["id"]: [
            dependency["pkg"]
            for dependency in node["deps"]
            if any(kind["kind"] is None and kind["target"] is None for kind in dependency["dep_kinds"])
        ]
        for node in metadata["resolve"]["nodes"]
    }
    found, left = set(), [metadata["resolve"]["root"]]
    while left:
        one = left.pop()
        if one not in found and "proc-macro" not in str(kinds_of(metadata, one)):
            found.add(one)
            left += needs[one]
    assert {names[one] for one in found} == SHIPPED


def kinds_of(metadata, package):
    (found,) = (one for one in metadata["packages"] if one["id"] == package)
    return [target["kind"] for target in found["targets"]]
