"""A chat room in one file: a web page, messages to the server by POST, and to the page by server-sent events.

    python -m ironloop examples/chat.py --port 8000     # then open http://127.0.0.1:8000 in two windows
    python examples/chat.py                             # without a port: three robots talk, and the program ends
    python -m ironloop examples/chat.py
    python -m ironloop compare examples/chat.py

The HTTP is as little as a browser needs, on asyncio's streams (RFC 9112; for events: the HTML standard, chapter 9.2).
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import sys

PAGE = pathlib.Path(__file__).with_name("chat.html")
LONGEST_MESSAGE = 2000


class Room:
    """Who is listening, each with a queue; whoever is a hundred messages behind misses some."""

    def __init__(self) -> None:
        self.listeners: set[asyncio.Queue[str]] = set()
        self.changed = asyncio.Event()

    def say(self, message: str) -> None:
        for queue in self.listeners:
            if not queue.full():
                queue.put_nowait(message)

    def join(self) -> "asyncio.Queue[str]":
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        self.listeners.add(queue)
        self.changed.set()
        return queue

    def leave(self, queue: "asyncio.Queue[str]") -> None:
        self.listeners.discard(queue)
        self.changed.set()

    async def wait_for_listeners(self, count: int) -> None:
        while len(self.listeners) != count:
            self.changed.clear()
            await self.changed.wait()


def response(status: str, body: bytes = b"", kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def serve(room: Room, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of a browser's."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split("\r\n")[0].split(" ", 2)
        if (method, path) == ("GET", "/"):
            writer.write(response("200 OK", PAGE.read_bytes(), "text/html; charset=utf-8"))
        elif (method, path) == ("GET", "/events"):
            await send_events(room, reader, writer)
        elif (method, path) == ("POST", "/say"):
            await receive_message(room, head, reader, writer)
        else:
            writer.write(response("404 Not Found"))
        await writer.drain()
    writer.close()


async def send_events(room: Room, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n")
    queue = room.join()
    forwarding = asyncio.create_task(forward(queue, writer))
    try:
        # The browser says nothing more; that it goes ends this.
        await reader.read()
    finally:
        forwarding.cancel()
        await asyncio.wait([forwarding])
        room.leave(queue)


async def forward(queue: "asyncio.Queue[str]", writer: asyncio.StreamWriter) -> None:
    while True:
        # Nothing but a data line: JSON has no line breaks of its own.
        writer.write(f"data: {json.dumps(await queue.get())}\n\n".encode())
        await writer.drain()


async def receive_message(room: Room, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    lengths = [line.split(":", 1)[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
    length = int(lengths[0]) if lengths and lengths[0].strip().isdigit() else 0
    if not 0 < length <= LONGEST_MESSAGE:
        writer.write(response("413 Content Too Large"))
        return
    room.say((await reader.readexactly(length)).decode(errors="replace"))
    writer.write(response("204 No Content"))


async def robot(name: str, port: int, hears: int) -> "list[str]":
    """Listens as the page does, and gives what it has heard."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    heard = []
    for _ in range(hears):
        event = await reader.readuntil(b"\n\n")
        heard.append(f"{name} hears {json.loads(event.removeprefix(b'data: '))}")
    writer.close()
    return heard


async def say(port: int, text: str) -> None:
    body = text.encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /say HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (await reader.read()).startswith(b"HTTP/1.1 204")
    writer.close()


async def talk(room: Room, port: int) -> None:
    """Three robots listen while five sentences are said, and the page is there."""
    sentences = ["hello", "anybody here?", "yes", "1 < 2 & 2 > 1", "grüße"]
    robots = [asyncio.create_task(robot(name, port, len(sentences))) for name in ("Ada", "Grace", "Barbara")]
    await room.wait_for_listeners(3)
    for sentence in sentences:
        await say(port, sentence)
    for heard in await asyncio.gather(*robots):
        print("\n".join(heard))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    answer = await reader.read()
    print("the page is there:", answer.startswith(b"HTTP/1.1 200") and answer.endswith(PAGE.read_bytes()))
    writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, help="serve browsers here, until Ctrl-C")
    asked_for = parser.parse_args().port
    room = Room()
    server = await asyncio.start_server(lambda r, w: serve(room, r, w), "127.0.0.1", asked_for or 0)
    if asked_for:
        print(f"http://127.0.0.1:{asked_for}", flush=True)
        await server.serve_forever()
    await talk(room, server.sockets[0].getsockname()[1])
    await room.wait_for_listeners(0)
    server.close()


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
