"""The pytest plugins that run coroutines, and unittest: small suites in runs of their own, by the lines of the page."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.page import page
from tests.support.web_servers import environment

NEEDS = ("aiohttp", "anyio", "pytest_aiohttp", "pytest_asyncio")

CHECK = """
import asyncio, ironloop, pytest

def on_ironloop():
    return type(asyncio.get_running_loop()) is ironloop.Loop
"""

PYTEST_ASYNCIO = """
import pytest_asyncio

@pytest_asyncio.fixture
async def server():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

@pytest.mark.asyncio
async def test_with_a_fixture(server):
    assert on_ironloop()
    reader, writer = await asyncio.open_connection("127.0.0.1", server)
    writer.write(b"line\\n")
    assert await reader.read() == b"line\\n"
    writer.close()
    await writer.wait_closed()

@pytest.mark.asyncio(loop_scope="module")
class TestInOneLoop:
    async def test_first(self):
        TestInOneLoop.loop = asyncio.get_running_loop()
        assert on_ironloop()

    async def test_second(self):
        assert asyncio.get_running_loop() is TestInOneLoop.loop

@pytest.mark.asyncio
@pytest.mark.xfail(strict=True, raises=asyncio.TimeoutError)
async def test_that_fails():
    await asyncio.wait_for(asyncio.Event().wait(), 0.01)
"""

PYTEST_AIOHTTP = """
from aiohttp import web

async def test_a_client_of_a_server(aiohttp_client):
    async def which(request):
        return web.Response(text=str(on_ironloop()))
    application = web.Application()
    application.router.add_get("/", which)
    client = await aiohttp_client(application)
    assert await (await client.get("/")).text() == "True"
    assert on_ironloop()
"""

AIOHTTPS_OWN = """
from aiohttp import web

async def test_a_client_of_a_server(aiohttp_client, loop):
    assert type(loop) is ironloop.Loop
    client = await aiohttp_client(web.Application())
    assert (await client.get("/")).status == 404
    assert on_ironloop()
"""

ANYIO = """
import anyio

@pytest.fixture
async def group():
    async with anyio.create_task_group() as group:
        yield group

@pytest.mark.anyio
async def test_with_a_fixture(group):
    started = anyio.Event()
    async def task():
        started.set()
    group.start_soon(task)
    await started.wait()
    assert on_ironloop()
"""

PLUGINS = {"asyncio", "aiohttp", "anyio"}

#: name: the suite, the plugins that it wants of PLUGINS, more options, and how many of its tests pass
SUITES = {
    "pytest-asyncio": (PYTEST_ASYNCIO, {"asyncio"}, [], 3),
    "pytest-aiohttp": (PYTEST_AIOHTTP, {"asyncio", "aiohttp"}, ["-o", "asyncio_mode=auto"], 1),
    "aiohttp's own": (AIOHTTPS_OWN, set(), ["-p", "aiohttp.pytest_plugin"], 1),
    "AnyIO": (ANYIO, {"anyio"}, [], 1),
}


def passes(folder, name, conftest, *launcher):
    suite, plugins, options, passed = SUITES[name]
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_suite.py").write_text(CHECK + suite)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    for plugin in PLUGINS - plugins:
        options = [*options, "-p", f"no:{plugin}"]
    command = [sys.executable, *launcher, "-m", "pytest", "-q", "-W", "error::ResourceWarning", *options]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^{passed} passed\b", done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.parametrize(
    ("name", "section", "file"),
    [
        ("pytest-asyncio", "pytest-asyncio", "conftest.py"),
        ("pytest-asyncio", "pytest-asyncio", "conftest_before.py"),
        ("pytest-aiohttp", "pytest-asyncio", "conftest.py"),
        ("aiohttp's own", "aiohttp's own plugin", "conftest_aiohttp.py"),
        ("AnyIO", "AnyIO's plugin", "conftest_anyio.py"),
    ],
)
def test_a_suite_that_asks_for_ironloop_runs_on_it(tmp_path, name, section, file):
    passes(tmp_path, name, page()[section].files[file])


@pytest.mark.parametrize("name", SUITES)
def test_the_launcher_runs_a_suite_on_ironloop(tmp_path, name):
    assert page()["pytest"].lines == ["python -m ironloop -m pytest"]
    # By default AnyIO's plugin runs each test on all of its backends.
    conftest = "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    passes(tmp_path, name, conftest, "-m", "ironloop")


def test_unittests_coroutines_run_on_ironloop(tmp_path):
    page()["unittest"].write(tmp_path)
    command = page()["unittest"].command(page()["unittest"].lines[0], 0)
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Ran 1 test" in done.stderr
    assert "Warning" not in done.stderr
