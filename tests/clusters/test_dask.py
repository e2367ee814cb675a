"""Dask distributed on ironloop: computations, a worker that is killed, TLS, and clients in a program of asyncio's."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys

import ironloop
import pytest

from tests.clusters.conftest import PROGRAMS, run_program
from tests.peers.programs import skip_or_fail

NAME = """
async def name():
    import asyncio
    return type(asyncio.get_running_loop()).__module__

"""

# Four processes that import much: on a busy machine that takes a while.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _dask():
    if importlib.util.find_spec("distributed") is None:
        skip_or_fail("needs distributed")


def name_of_loop():
    """Runs in a process of the cluster's."""
    import asyncio
    import threading

    def find(loop):
        return type(loop).__module__.split(".")[0]

    try:
        return find(asyncio.get_running_loop())
    except RuntimeError:
        # A worker's tasks run beside its loop.
        from distributed import get_worker

        assert threading.current_thread() is not threading.main_thread()
        return find(get_worker().loop.asyncio_loop)


def square(number):
    return number * number


def slow_square(number, folder):
    """Tells that it has begun, and is slow once: the first time."""
    import pathlib
    import time

    began = pathlib.Path(folder) / f"began-{number}"
    if not began.exists():
        began.write_text(str(os.getpid()))
        time.sleep(600 if number == 3 else 0.01)
    return number * number


async def connected(address, workers, **options):
    from distributed import Client

    client = await Client(address, asynchronous=True, timeout=60, **options)
    await client.wait_for_workers(workers, timeout=100)
    return client


def test_scheduler_workers_and_nannies_run_on_ironloop_and_compute(cluster):
    address = cluster.scheduler()
    cluster.workers(address, 2)

    async def main():
        async with await connected(address, 2) as client:
            loops = {
                await client.run_on_scheduler(name_of_loop),
                *(await client.run(name_of_loop)).values(),
                *(await client.run(name_of_loop, nanny=True)).values(),
                await client.submit(name_of_loop),
                name_of_loop(),
            }
            squares = client.map(square, range(500))
            total = client.submit(sum, squares)
            return loops, await total, await client.gather(squares)

    loops, total, squares = ironloop.run(main())
    assert loops == {"ironloop"}
    assert squares == [number * number for number in range(500)]
    assert total == sum(squares)


def test_the_work_of_a_killed_worker_is_done_again(cluster, tmp_path):
    address = cluster.scheduler()
    cluster.workers(address, 2)

    async def main():
        async with await connected(address, 2) as client:
            futures = client.map(slow_square, range(10), folder=str(tmp_path), retries=2)
            began = tmp_path / "began-3"
            while not began.exists() or not began.read_text():
                await asyncio.sleep(0.02)
            os.kill(int(began.read_text()), signal.SIGKILL)
            return await client.gather(futures)

    assert ironloop.run(main()) == [number * number for number in range(10)]


def test_over_tls(cluster, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    address = cluster.scheduler("--protocol", "tls", *options)
    assert address.startswith("tls://")
    cluster.workers(address, 2, *options)

    async def main():
        from distributed import Security

        security = Security(
            tls_ca_file=certificate, tls_client_cert=certificate, tls_client_key=key, require_encryption=True
        )
        async with await connected(address, 2, security=security) as client:
            addresses = await client.run(square, 7)
            large = await client.submit(bytes, 3_000_000)
            return addresses, len(large)

    answers, size = ironloop.run(main())
    assert all(address.startswith("tls://") for address in answers)
    assert (list(answers.values()), size) == ([49, 49], 3_000_000)


def test_the_client_of_the_page(cluster, tmp_path):
    address = cluster.scheduler()
    cluster.workers(address, 2)
    (code,) = [code for code in PROGRAMS if "asynchronous=True" in code]
    assert run_program(code.replace("tcp://127.0.0.1:8786", address), tmp_path) == "328350\n"


def test_the_local_cluster_of_the_page(tmp_path):
    """`install()` at the top of a program reaches the processes that it starts."""
    (code,) = [code for code in PROGRAMS if "LocalCluster" in code]
    shown = "        print(*client.run(name).values(), client.sync(name))\n"
    code = NAME + code.replace("n_workers=2", "n_workers=2, dashboard_address=None") + shown
    assert run_program(code, tmp_path).split() == ["4950", *["ironloop._loop"] * 3]


def test_a_wrong_command_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "ironloop.integrations.dask", "dance"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2
    assert "scheduler | worker | spec" in done.stderr
