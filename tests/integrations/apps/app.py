"""The application of the tests, in place of the page's app.py: it also shows life cycle, streams and WebSockets.

/          which loop it runs on
/pid       which process it runs in
/slow      a part of the answer now, the rest when there is a file "go"
/digest    the SHA-256 of what was sent
/pattern   three megabytes
WebSocket  echoes
"""

import asyncio
import hashlib
import os


async def lifespan(receive, send):
    while True:
        event = (await receive())["type"]
        print(event, type(asyncio.get_running_loop()).__module__, flush=True)
        await send({"type": event + ".complete"})
        if event == "lifespan.shutdown":
            return


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def parts_of_answer(path, receive):
    if path == "/slow":
        yield b"first part, "
        while not os.path.exists("go"):
            await asyncio.sleep(0.001)
        yield b"second part"
    elif path == "/digest":
        digest, more = hashlib.sha256(), True
        while more:
            event = await receive()
            digest.update(event.get("body", b""))
            more = event.get("more_body", False)
        yield digest.hexdigest().encode()
    elif path == "/pattern":
        for _ in range(30):
            yield bytes(range(250)) * 400
    else:
        yield str(
            os.getpid() if path == "/pid" else f"running on {type(asyncio.get_running_loop()).__module__}\n"
        ).encode()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        async for part in parts_of_answer(scope["path"], receive):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
