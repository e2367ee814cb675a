"""A crawler with eight workers, against a site of a few hundred pages that it serves itself.

    python examples/crawler.py
    python -m ironloop examples/crawler.py
    python -m ironloop compare examples/crawler.py

It follows every link once, obeys robots.txt, counts what is missing, and keeps its connections for the next page.
"""

import asyncio
import re
from urllib.parse import urljoin, urlsplit

PAGES = 400
WORKERS = 8
LINK = re.compile(rb'href="([^"]+)"')


def page(number: int) -> bytes:
    """A page that links to three others, to one that is missing now and then, and to one that is not for robots."""
    links = [f"/page/{(number * factor + 1) % PAGES}" for factor in (2, 3, 5)]
    links += ["/private"] + ([f"/gone/{number}"] if number % 50 == 0 else [])
    return "\n".join(f'<a href="{link}">{link}</a>' for link in links).encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The site."""
    try:
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            status, body = "404 Not Found", b""
            if path == "/robots.txt":
                status, body = "200 OK", b"User-agent: *\nDisallow: /private\n"
            elif path.startswith("/page/"):
                status, body = "200 OK", page(int(path.removeprefix("/page/")))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


class Connection:
    """A connection to the site, used for one request after the other (RFC 9112, 9.3)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def get(self, path: str) -> "tuple[int, bytes]":
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        return int(head.split()[1]), await self.reader.readexactly(int(length[1]))


class Crawl:
    """What has been seen, and what is still to be fetched."""

    def __init__(self, root: str, forbidden: "set[str]") -> None:
        self.root = root
        self.forbidden = forbidden
        self.seen: set[str] = set()
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.statuses: dict[int, int] = {}
        self.received = 0

    def add(self, path: str) -> None:
        if path not in self.seen and path not in self.forbidden:
            self.seen.add(path)
            self.queue.put_nowait(path)

    async def work(self, connection: Connection) -> None:
        while True:
            path = await self.queue.get()
            status, body = await connection.get(path)
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.received += len(body)
            for link in LINK.findall(body):
                self.add(urlsplit(urljoin(self.root + path, link.decode())).path)
            self.queue.task_done()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(WORKERS)]
    _, robots = await connections[0].get("/robots.txt")
    crawl = Crawl(f"http://127.0.0.1:{port}", set(re.findall(r"Disallow: (\S+)", robots.decode())))
    crawl.add("/page/0")
    workers = [asyncio.create_task(crawl.work(connection)) for connection in connections]
    await crawl.queue.join()
    for worker in workers:
        worker.cancel()
    print(f"{len(crawl.seen)} addresses, {crawl.received} bytes")
    for status, count in sorted(crawl.statuses.items()):
        print(f"{status}: {count}")
    for connection in connections:
        connection.writer.close()
        await connection.writer.wait_closed()
    server.close()


asyncio.run(main())
