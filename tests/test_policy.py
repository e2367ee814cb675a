"""The policy is asyncio's own default policy with another loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import ironloop
import pytest

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 16), reason="asyncio has no policies any more")


def outcome(policy, body):
    """What a program prints and warns of with the policy that the expression makes."""
    code = f"import asyncio, ironloop, threading, warnings\nasyncio.set_event_loop_policy({policy})\n{body}"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    lines = [line.split(": ", 1)[-1] for line in done.stderr.splitlines() if "policy" not in line.lower()]
    return done.stdout, [line for line in lines if line.startswith(("Deprecation", "There", "RuntimeError"))]


@pytest.mark.parametrize(
    "body",
    [
        "loop = asyncio.get_event_loop(); print(loop is asyncio.get_event_loop()); loop.close()",
        "asyncio.set_event_loop(None)\ntry:\n    asyncio.get_event_loop()\nexcept RuntimeError as e:\n    print(e)",
        """
def other():
    try:
        asyncio.get_event_loop()
    except RuntimeError as error:
        print(error)
thread = threading.Thread(target=other, name="T")
thread.start()
thread.join()
""",
        """
async def main():
    return asyncio.get_event_loop() is asyncio.get_running_loop()
print(asyncio.run(main()))
""",
        """
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
print(asyncio.get_event_loop() is loop)
loop.close()
""",
    ],
)
def test_get_event_loop_does_what_cpythons_policy_does(body):
    assert outcome("ironloop.EventLoopPolicy()", body) == outcome("asyncio.DefaultEventLoopPolicy()", body)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_makes_our_loops():
    policy = ironloop.EventLoopPolicy()
    assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
    loop = policy.new_event_loop()
    assert type(loop) is ironloop.Loop
    loop.close()

    class Mine(ironloop.EventLoopPolicy):
        pass

    assert ironloop.EventLoopPolicy is ironloop.EventLoopPolicy
    loop = Mine().new_event_loop()
    assert type(loop) is ironloop.Loop
    loop.close()


def test_install_makes_every_later_loop_ours_and_does_not_warn():
    code = """
import warnings
warnings.simplefilter("error")
import asyncio, ironloop
ironloop.install()
async def main():
    return type(asyncio.get_running_loop())
assert asyncio.run(main()) is ironloop.Loop
loop = asyncio.new_event_loop()
assert type(loop) is ironloop.Loop
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
