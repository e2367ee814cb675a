"""FastAPI, Sanic and Tornado applications of the page, asked over HTTP and WebSockets."""

from __future__ import annotations

import json
import signal
import sys
import urllib.parse

import pytest

from tests.support.page import page
from tests.support.web_servers import serving

NEEDS = ("fastapi", "sanic", "tornado", "uvicorn", "websockets")


@pytest.fixture
def start(tmp_path, port):
    """`start(section, line)`: a context with the server of that line."""

    def start(section, line, **variables):
        page()[section].write(tmp_path, port)
        return serving(page()[section].command(line, port), tmp_path, port, **variables)

    return start


def echoes(port, path="/echo"):
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
        for message in ("text", "ä" * 100_000):
            socket.send(message)
            assert socket.recv() == message


def test_fastapi_answers_in_tasks_in_threads_and_over_a_websocket(start):
    with start("FastAPI and Starlette", page()["FastAPI and Starlette"].lines[0]) as server:
        assert json.loads(server.get()) == {"loop": "ironloop._loop"}
        for before in ([], ["Ada"], ["Ada", "Grace"]):
            name = ["Ada", "Grace", "Barbara"][len(before)]
            answer = json.loads(server.get(f"/in-a-thread?{urllib.parse.urlencode({'name': name})}"))
            assert answer == {"hello": name, "before": before}
        echoes(server.port)
        assert "3.1" in json.loads(server.get("/openapi.json"))["openapi"]
        assert server.stop() == -signal.SIGTERM
        assert "Traceback" not in server.printed


@pytest.mark.parametrize("line", page()["Sanic"].lines, ids=["asgi", "own"])
def test_sanic_serves_under_asgi_and_by_its_own_server(start, line):
    with start("Sanic", line) as server:
        assert server.get() == "running on ironloop._loop\n"
        echoes(server.port)
        assert server.stop() in (0, -signal.SIGTERM)
        assert "Traceback" not in server.printed


def test_tornado_serves_on_the_running_loop(start):
    with start("Tornado", page()["Tornado"].lines[0]) as server:
        assert server.get() == "running on ironloop._loop\n"
        echoes(server.port)
        assert server.stop(signal.SIGINT) == -signal.SIGINT
        assert "KeyboardInterrupt" in server.printed


OLD_STYLE = """
import asyncio, os
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.web import Application, RequestHandler

class Which(RequestHandler):
    def get(self):
        self.write(f"{type(asyncio.get_event_loop()).__module__} {os.getpid()} {len(ticks) > 0} {received}")

server = HTTPServer(Application([("/", Which)]))
server.bind(8000, "127.0.0.1")
server.start(2)
ticks, received = [], []
PeriodicCallback(lambda: ticks.append(1), 1).start()
reader, writer = os.pipe()
os.write(writer, b"x")

def readable(descriptor, events):
    received.append(os.read(descriptor, 1))
    IOLoop.current().remove_handler(descriptor)

IOLoop.current().add_handler(reader, readable, IOLoop.READ)
IOLoop.current().start()
"""


def test_tornado_in_the_older_style_serves_in_two_processes(tmp_path, port):
    (tmp_path / "program.py").write_text(OLD_STYLE.replace("8000", str(port)))
    with serving([sys.executable, "-m", "ironloop", "program.py"], tmp_path, port) as server:
        processes = set()
        while len(processes) < 2:
            loop, process, ticks, received = server.get().split()
            assert loop == "ironloop._loop"
            if (ticks, received) == ("True", "[b'x']"):
                processes.add(process)
