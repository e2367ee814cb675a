"""Draws the pictures of the documentation: `python docs/make_pictures.py [FOLDER]` (default: this folder).

top.svg is what `python -m ironloop top` shows of a small server with clients, looked at while it runs. Needs `rich`.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
import threading
import time

import ironloop
from ironloop import _top, _top_view
from rich.console import Console

LOOKS = 24
INTERVAL = 0.1


async def client(port: int, pause: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(bytes(1000))
            await reader.readexactly(1000)
            await asyncio.sleep(pause)
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def clients(port: int) -> None:
    await asyncio.gather(*(asyncio.create_task(client(port, 0.001 * n), name=f"client {n}") for n in range(1, 9)))


async def report() -> None:
    """What should be in a thread."""
    time.sleep(0.12)


async def serve(looked: threading.Event) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    served = asyncio.create_task(clients(port), name="clients")
    await asyncio.sleep(LOOKS * INTERVAL / 2)
    await asyncio.create_task(report(), name="report 7")
    await asyncio.to_thread(looked.wait)
    served.cancel()
    await asyncio.gather(served, return_exceptions=True)
    server.close()


def look(history: _top.History, looked: threading.Event) -> None:
    for _ in range(LOOKS):
        history.add(ironloop.inspect.snapshot())
        looked.wait(INTERVAL)
    looked.set()


def main() -> None:
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    history, looked = _top.History(), threading.Event()
    thread = threading.Thread(target=look, args=(history, looked))
    thread.start()
    ironloop.run(serve(looked))
    thread.join()
    # As a program of somebody else's would look.
    history.snapshot["command"] = ["python", "server.py"]
    for task in history.loop["tasks"]:
        task["where"] = task["where"].replace(__file__, "server.py")
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=100, file=nowhere, force_terminal=True)
        console.print(_top_view.picture(history))
        console.save_svg(str(folder / "top.svg"), title="python -m ironloop top")


if __name__ == "__main__":
    main()
