"""Servers: "Hello, world!" with aiohttp and with uvicorn."""

from __future__ import annotations

import asyncio
from typing import Any

BODY = b"Hello, world!"
BACKLOG = 1024


async def serve_aiohttp(size: int) -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().create_future()


async def serve_uvicorn(size: int) -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    config = uvicorn.Config(
        app, "127.0.0.1", 0, http="httptools", lifespan="off", log_level="error", access_log=False, backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.001)
    if not serving.done():
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving
