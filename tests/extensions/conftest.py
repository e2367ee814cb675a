"""`native_jobs`: the module of examples/extension, built by cargo for the Python that runs the tests."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.peers.programs import skip_or_fail

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def native_jobs_path(tmp_path_factory):
    """The folder with the module in it."""
    if shutil.which("cargo") is None:
        skip_or_fail("needs cargo")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "extension"
    # As pip builds it: without the interpreter's library.
    environment = {**os.environ, "PYO3_PYTHON": sys.executable, "PYO3_BUILD_EXTENSION_MODULE": "1"}
    done = subprocess.run(
        ["cargo", "build", "--locked", "--target-dir", target],
        cwd=ROOT / "examples" / "extension", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        skip_or_fail(f"the extension was not built: {done.stderr[-2000:]}")
    folder = tmp_path_factory.mktemp("extension")
    shutil.copy(target / "debug" / "libnative_jobs.so", folder / "native_jobs.so")
    return folder


@pytest.fixture(scope="session")
def native_jobs(native_jobs_path):
    spec = importlib.util.spec_from_file_location("native_jobs", native_jobs_path / "native_jobs.so")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def start_tokio():
        await module.sleep(0, None)

    # It keeps its descriptors until the process ends; the tests look for those that they leave open.
    asyncio.run(start_tokio())
    return module
