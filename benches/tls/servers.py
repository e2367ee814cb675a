"""The TLS servers that are measured, the same for every loop; a process of run.py's.

    python servers.py NAME CERTIFICATE KEY

Prints three ports: echo; sink, which reads a count in eight bytes and then so many bytes, and answers one; source,
which reads a count and answers so many bytes. NAME is the name of a loop, "ironloop-fallback", or a loop's
followed by "+aiofastnet": a library that brings TLS transports of its own to any loop.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from typing import Any

PIECE = bytes(64 * 1024)
HEAD_BYTES = 8


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Sink(asyncio.Protocol):
    head = b""
    left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            if len(self.head) < HEAD_BYTES:
                return
            self.left = int.from_bytes(self.head[:HEAD_BYTES], "big") - len(self.head[HEAD_BYTES:])
        if self.left == 0:
            self.head = b""
            self.transport.write(b"k")


class Source(asyncio.Protocol):
    left = 0
    paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.left = int.from_bytes(data, "big")
        self.send()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()

    def send(self) -> None:
        while self.left and not self.paused:
            self.left -= len(PIECE)
            if self.left < 0:
                self.transport.write(PIECE[: self.left])
                self.left = 0
            else:
                self.transport.write(PIECE)


async def serve(name: str, certificate: str, key: str) -> None:
    """Print the ports and serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    servers = []
    for protocol in (Echo, Sink, Source):
        if name.endswith("+aiofastnet"):
            aiofastnet = importlib.import_module("aiofastnet")
            server = await aiofastnet.create_server(loop, protocol, "127.0.0.1", 0, ssl=context)
        else:
            server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=context, backlog=512)
        servers.append(server)
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    name, certificate, key = sys.argv[1:]
    module = name.partition("+")[0].partition("-")[0]
    new_loop = asyncio.SelectorEventLoop if module == "asyncio" else importlib.import_module(module).new_event_loop
    loop = new_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(name, certificate, key))


if __name__ == "__main__":
    main()
