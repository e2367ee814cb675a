"""aiohttp, httpx, AnyIO and a Trio guest: the programs of the page, and what a loop can get wrong there."""

from __future__ import annotations

import os
import signal

import pytest

from tests.integrations.programs import output_of
from tests.support.page import page
from tests.support.web_servers import serving

NEEDS = ("aiohttp", "aiofastnet", "anyio", "httpx", "trio")


@pytest.mark.parametrize("name", ["aiohttp_app.py", "aiofastnet_app.py"])
def test_aiohttp_serves_and_fetches(tmp_path, port, name):
    section = page()["With aiofastnet"]
    section.write(tmp_path, port)
    page()["aiohttp"].write(tmp_path, port)
    command = page()["aiohttp"].command("python aiohttp_app.py", port)
    with serving([*command[:-1], name], tmp_path, port) as server:
        for client, folder in (("aiohttp", "aiohttp_client.py"), ("httpx", "httpx_client.py")):
            assert output_of(client, folder, tmp_path, port) == "running on ironloop._loop\n"
        assert server.stop() == 0
        assert "Traceback" not in server.printed


def test_aiohttps_command_line_serves(tmp_path, port):
    page()["aiohttp"].write(tmp_path, port)
    (tmp_path / "aiohttp_main.py").write_text("from aiohttp_app import app\n\n\ndef main(argv):\n    return app\n")
    line = next(line for line in page()["aiohttp"].lines if "aiohttp.web" in line)
    with serving(page()["aiohttp"].command(line, port), tmp_path, port) as server:
        assert server.get() == "running on ironloop._loop\n"
        assert server.stop() == 0


def test_anyio_runs_on_the_loop_that_its_options_make(tmp_path):
    assert output_of("AnyIO", "anyio_program.py", tmp_path) == "running on ironloop._loop\n"


def test_anyios_tasks_threads_sockets_processes_and_signals_work(loop_factory, tmp_path):
    anyio = pytest.importorskip("anyio")

    async def main():
        heard = []

        async def echo(stream):
            async with stream:
                async for data in stream:
                    await stream.send(data)

        async with anyio.create_task_group() as group:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            group.start_soon(listener.serve, echo)
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.connect_tcp(*address) as stream:
                for size in (1, 1000, 60_000):
                    await stream.send(b"x" * size)
                    received = b""
                    while len(received) < size:
                        received += await stream.receive()
                    heard.append(len(received))
                with anyio.move_on_after(0.01) as scope:
                    await stream.receive()
                assert scope.cancelled_caught
            result = await anyio.run_process(["cat"], input=b"through a process")
            heard.append(result.stdout)
            heard.append(await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(lambda: "back and forth")))
            with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
                os.kill(os.getpid(), signal.SIGUSR1)
                async for number in signals:
                    heard.append(number)
                    break
            async with await anyio.open_file(tmp_path / "file", "w+") as file:
                await file.write("text")
                await file.seek(0)
                heard.append(await file.read())
            group.cancel_scope.cancel()
        await listener.aclose()
        return heard

    heard = anyio.run(main, backend_options={"loop_factory": loop_factory})
    assert heard == [1, 1000, 60_000, b"through a process", "back and forth", signal.SIGUSR1, "text"]


def test_trio_runs_as_a_guest(tmp_path):
    assert output_of("Trio as a guest", "trio_guest.py", tmp_path) == "timed out in trio: True\n"
