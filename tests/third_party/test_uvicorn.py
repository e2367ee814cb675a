"""uvicorn as a process of its own: SIGTERM ends it in order, after the answers that are under way."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys

import pytest

from tests.support.programs import NEW_LOOP

pytest.importorskip("uvicorn", exc_type=ImportError)

PROGRAM = """
import asyncio, signal, sys, uvicorn

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            print(event, flush=True)
            await send({{"type": event + ".complete"}})
            if event == "lifespan.shutdown":
                return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"first part, ", "more_body": True}})
    if scope["path"] == "/slow":
        print("under way", flush=True)
        while not server.should_exit:
            await asyncio.sleep(0.001)
    await send({{"type": "http.response.body", "body": b"second part"}})

async def main():
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await task

server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="warning", http="h11", ws="none"))
signal.signal(signal.SIGTERM, lambda *_: print("the handler before uvicorn's", flush=True))
loop = {new_loop}
loop.run_until_complete(main())
loop.close()
print("closed")
"""


@pytest.mark.slow
def test_sigterm_ends_uvicorn_after_the_answers_that_are_under_way(loop_name):
    code = PROGRAM.format(new_loop=NEW_LOOP[loop_name])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "lifespan.startup\n"
            port = int(process.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
            for path in ("/", "/slow"):
                connection.request("GET", path)
                if path == "/slow":
                    assert process.stdout.readline() == "under way\n"
                    process.send_signal(signal.SIGTERM)
                assert connection.getresponse().read() == b"first part, second part"
            connection.close()
            out, err = process.communicate(timeout=50)
        finally:
            process.kill()
    assert out.splitlines() == ["lifespan.shutdown", "the handler before uvicorn's", "closed"]
    assert (err, process.returncode) == ("", 0)
