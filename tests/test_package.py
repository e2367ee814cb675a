"""The package: its names, and that importing it changes nothing."""

from __future__ import annotations

import subprocess
import sys

import ironloop
import pytest


def test_the_public_names_are_there():
    for name in ironloop.__all__:
        assert getattr(ironloop, name) is not None
    assert set(ironloop.__all__) <= set(dir(ironloop))
    assert ironloop.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ironloop.nothing


def test_importing_changes_nothing_in_asyncio():
    code = """
import asyncio, warnings
warnings.simplefilter("error")
before = {module: dict(vars(module)) for module in (asyncio, asyncio.events, asyncio.base_events, asyncio.tasks)}
policy = asyncio.events._event_loop_policy
import ironloop
for module, names in before.items():
    assert dict(vars(module)) == names, module
assert asyncio.events._event_loop_policy is policy
loop = asyncio.new_event_loop()
assert type(loop) is asyncio.SelectorEventLoop
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_new_event_loop_makes_loops():
    loop = ironloop.new_event_loop()
    assert type(loop) is ironloop.Loop
    loop.close()


def test_asyncios_names_can_be_replaced_by_ours():
    """As programs do that cannot say which loop their libraries make."""
    code = """
import asyncio, asyncio.base_events, asyncio.unix_events
import ironloop
for module in (asyncio, asyncio.unix_events):
    module.SelectorEventLoop = ironloop.Loop
for module in (asyncio, asyncio.base_events):
    module.BaseEventLoop = ironloop.Loop

async def main():
    return await asyncio.get_running_loop().create_task(asyncio.sleep(0, "done"), name="named")

loop = asyncio.SelectorEventLoop()
assert type(loop) is ironloop.Loop
assert loop.run_until_complete(main()) == "done"
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_start_imports_nothing_that_asyncio_does_not():
    # Such as typing: on CPython 3.14 its import takes longer than that of ironloop.
    code = """
import asyncio, sys
before = set(sys.modules)
import ironloop
ironloop.run(asyncio.sleep(0))
ironloop.new_event_loop().close()
more = set(sys.modules) - before
assert "ironloop._native" in more
others = {name for name in more if name.partition(".")[0] != "ironloop"} - {"__future__"}
assert not others, others
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_integrations_import_only_what_is_asked_for():
    code = """
import sys
import ironloop
assert not any(name.startswith("ironloop.integrations") for name in sys.modules)
from ironloop.integrations import gunicorn
assert dir(gunicorn) == ["AiohttpWorker", "UvicornWorker", "Worker"]
assert not {"gunicorn", "uvicorn", "aiohttp"} & set(sys.modules)
try:
    gunicorn.Nothing
except AttributeError as error:
    assert "no attribute 'Nothing'" in str(error)
else:
    raise AssertionError
sys.modules["gunicorn.workers.gasgi"] = None  # as before gunicorn 24
try:
    gunicorn.Worker
except ImportError as error:
    assert "use UvicornWorker" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
