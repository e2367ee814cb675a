"""The source distribution: everything that a build and a test run need is in it, and nothing that was built."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def distribution(tmp_path_factory):
    """The unpacked distribution."""
    maturin = shutil.which("maturin", path=pathlib.Path(sys.executable).parent) or shutil.which("maturin")
    if maturin is None or shutil.which("cargo") is None:
        pytest.skip("needs maturin and cargo")
    folder = tmp_path_factory.mktemp("sdist")
    done = subprocess.run([maturin, "sdist", "--out", folder], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("ironloop-*.tar.gz")
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        assert all(member.isfile() and ".." not in member.name for member in members)
        for member in members:
            tar.extract(member, folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / archive.name.removesuffix(".tar.gz")


def sources(root):
    """The files that a build reads, as paths below `root`."""
    patterns = ("src/**/*.rs", "python/ironloop/**/*", "build.rs", "Cargo.*", "pyproject.toml", "README.md", "LICENSE*")
    files = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return {str(path.relative_to(root)) for path in files if path.suffix not in (".so", ".pyc")}


@pytest.mark.slow
def test_it_has_all_sources_as_they_are(distribution):
    names = sources(ROOT)
    assert {"Cargo.lock", "src/lib.rs", "python/ironloop/py.typed"} <= names
    assert sources(distribution) == names
    for name in names:
        # Cargo.toml and pyproject.toml may be written anew.
        if name.endswith((".rs", ".py", ".lock")):
            assert (distribution / name).read_bytes() == (ROOT / name).read_bytes(), name


@pytest.mark.slow
def test_it_has_the_tests_and_nothing_that_was_built(distribution):
    assert (distribution / "tests" / "conftest.py").exists()
    assert (distribution / "tests" / "support" / "protocols.py").exists()
    built = [
        path for path in distribution.rglob("*") if path.suffix in (".so", ".pyc", ".rlib") or path.name == "target"
    ]
    assert built == []


@pytest.mark.slow
def test_its_metadata_names_versions_and_licences(distribution):
    metadata = (distribution / "PKG-INFO").read_text()
    for line in ("Name: ironloop", "Requires-Python: >=3.10", "License-Expression: Apache-2.0 OR MIT"):
        assert line in metadata.splitlines()
    for licence in ("LICENSE-APACHE", "LICENSE-MIT"):
        assert (distribution / licence).exists()


@pytest.mark.slow
def test_cargo_can_read_it_with_the_locked_versions(distribution):
    done = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version=1", "--no-deps"],
        cwd=distribution, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
