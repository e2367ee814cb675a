"""`Cluster`: a scheduler of dask distributed's and its workers, as processes on ironloop."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.peers.programs import skip_or_fail

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What dask's processes are told: no dashboard, no waiting for a busy machine.
ENVIRONMENT = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "50s",
    "PYTHONUNBUFFERED": "1",
}


@pytest.fixture(scope="session", autouse=True)
def _dask():
    if importlib.util.find_spec("distributed") is None:
        skip_or_fail("needs distributed")


class Cluster:
    """Starts processes, and reads from what they log where they listen."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.stack = stack
        self.started = 0

    def start(self, command, *options):
        """A process of `command`; returns it and the file of its log."""
        self.started += 1
        log = self.folder / f"{command}-{self.started}.log"
        # Functions of the tests go to the workers by name.
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ironloop.integrations.dask", command, *options],
                stdout=output, stderr=subprocess.STDOUT, cwd=self.folder, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        return process, log

    def scheduler(self, *options):
        """Its address."""
        process, log = self.start("scheduler", "--no-dashboard", "--host", "127.0.0.1", "--port", "0", *options)
        while not (found := re.search(r"Scheduler at: +(\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        return found[1]

    def workers(self, address, count, *options):
        for _ in range(count):
            self.start("worker", address, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0", *options)


@pytest.fixture
def cluster(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Cluster(tmp_path, stack)
