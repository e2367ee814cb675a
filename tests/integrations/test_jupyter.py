"""A Jupyter kernel by the page's kernel.json executes cells on ironloop: top-level await, tasks, interrupts, its end.

The client is jupyter_client's asynchronous one, pyzmq's sockets on the loop under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import ironloop
import pytest

from tests.peers.programs import package
from tests.support.page import page
from tests.support.web_servers import environment

NEEDS = ("ipykernel", "jupyter_client")


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """`async with kernel() as kernel` starts one from the kernel specification of the page."""
    (tmp_path / "kernels" / "ironloop").mkdir(parents=True)
    page()["Jupyter"].write(tmp_path / "kernels" / "ironloop")
    for name, value in environment(JUPYTER_PATH=str(tmp_path), IPYTHONDIR=str(tmp_path)).items():
        monkeypatch.setenv(name, value)

    @contextlib.asynccontextmanager
    async def start():
        manager = package("jupyter_client").AsyncKernelManager(kernel_name="ironloop")
        await manager.start_kernel(cwd=str(tmp_path))
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=50)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
            manager.context.destroy(0)

    return start


class Kernel:
    def __init__(self, manager, client):
        self.manager = manager
        self.client = client

    async def execute(self, code, on_output=None):
        """Execute a cell; (what it printed and returned, the name of its exception or None)."""
        output = []

        def hook(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                output.append(content["text"])
                if on_output:
                    self.interrupting = asyncio.ensure_future(on_output())
            elif message["msg_type"] == "execute_result":
                output.append(content["data"]["text/plain"])

        reply = await self.client.execute_interactive(code, timeout=50, output_hook=hook)
        return "".join(output), reply["content"].get("ename")


CELLS = [
    ("import asyncio\nprint(type(asyncio.get_running_loop()).__module__)", ("ironloop._loop\n", None)),
    ("await asyncio.sleep(0.01, 'slept')", ("'slept'", None)),
    ("task = asyncio.create_task(asyncio.sleep(0.01, 5))", ("", None)),
    ("await task", ("5", None)),
    ("await asyncio.wait_for(asyncio.Event().wait(), 0.01)", ("", "TimeoutError")),
    ("child = await asyncio.create_subprocess_exec('echo', 'from a child', stdout=-1)", ("", None)),
    ("(await child.communicate())[0].decode()", ("'from a child\\n'", None)),
]


def test_cells_run_on_ironloop(run, kernel):
    async def main():
        async with kernel() as started:
            for code, expected in CELLS:
                assert await started.execute(code) == expected

    run(main)


@pytest.mark.parametrize("cell", ["import time\ntime.sleep(50)", "import asyncio\nawait asyncio.sleep(50)"])
def test_a_cell_can_be_interrupted(kernel, cell):
    async def main():
        async with kernel() as started:
            result = await started.execute(f"print('now')\n{cell}", on_output=started.manager.interrupt_kernel)
            assert result in [("now\n", "KeyboardInterrupt"), ("now\n", "CancelledError")]
            assert await started.execute("1 + 1") == ("2", None)

    ironloop.run(main())


def test_the_kernel_ends_when_it_is_asked_to(kernel):
    async def main():
        async with kernel() as started:
            pid, _ = await started.execute("import os\nos.getpid()")
            await started.manager.shutdown_kernel()
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)

    ironloop.run(main())
