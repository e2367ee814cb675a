"""uvicorn, gunicorn, hypercorn and granian, by the lines of the page: they serve, have workers, and end in order."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.certificate import client_context, write_files
from tests.support.page import page
from tests.support.web_servers import serving

NEEDS = (
    "uvicorn",
    "httptools",
    "uvloop",
    "uvicorn_worker",
    "gunicorn",
    "hypercorn",
    "granian",
    "websockets",
    "aiohttp",
)
SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian")
TLS = ("certfile", "serve.py")
APP = Path(__file__).parent / "apps" / "app.py"


def lines(*wanted, sections=SERVERS, without=("aiohttp_app", *TLS)):
    """The lines of the page that have all of these words, and start a server that speaks plain HTTP to any ASGI app."""
    return [
        pytest.param(section, line, id=line.removeprefix("python -m ironloop -m ").replace(" ", "_"))
        for section in sections
        for line in page()[section].lines
        if all(word in line for word in wanted) and not any(word in line for word in without)
    ]


@pytest.fixture
def serve(tmp_path, port):
    """`serve(section, line)` starts that line of the page, on the tests' application."""
    with contextlib.ExitStack() as stack:

        def start(section, line, app=APP, options=()):
            page()["The launcher"].write(tmp_path)
            page()[section].write(tmp_path, port)
            if app is not None:
                shutil.copy(app, tmp_path / "app.py")
            write_files(tmp_path)
            command = [*page()[section].command(line, port), *options]
            return stack.enter_context(serving(command, tmp_path, port))

        yield start


def connected(server, tls=False):
    if tls:
        return contextlib.closing(http.client.HTTPSConnection("127.0.0.1", server.port, context=client_context()))
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=50))


@pytest.mark.parametrize(("section", "line"), lines())
def test_the_line_puts_the_application_on_ironloop(serve, section, line):
    from websockets.sync.client import connect

    server = serve(section, line)
    assert server.get() == "running on ironloop._loop\n"
    with connected(server) as connection:
        for _ in range(3):
            data = os.urandom(3_000_000)
            connection.request("POST", "/digest", body=data)
            assert connection.getresponse().read().decode() == hashlib.sha256(data).hexdigest()
            connection.request("GET", "/pattern")
            assert connection.getresponse().read() == bytes(range(250)) * 12_000
    with connect(f"ws://127.0.0.1:{server.port}/", max_size=None) as socket:
        for message in ("", "text", b"bytes", "x" * 100_000, os.urandom(1_000_000)):
            socket.send(message)
            assert socket.recv() == message
    assert "lifespan.startup ironloop._loop" in server.printed
    assert server.stop() in (0, -signal.SIGTERM)
    assert "lifespan.shutdown ironloop._loop" in server.printed
    assert "Traceback" not in server.printed


@pytest.mark.parametrize("section", ["uvicorn", "granian"])
def test_the_program_and_the_application_of_the_page_serve(serve, section):
    server = serve(section, "python serve.py", app=None)
    assert server.get() == "running on ironloop._loop\n"
    assert server.stop() in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("section", "line"),
    lines("--loop")
    + lines("-k", "ironloop.")
    + lines(sections=("granian",))
    + lines("serve.py", sections=("hypercorn",), without=()),
)
def test_sigterm_lets_the_answer_under_way_be_finished(serve, tmp_path, section, line):
    server = serve(section, line)
    with connected(server, tls=section == "hypercorn") as connection:
        connection.request("GET", "/slow")
        answer = connection.getresponse()
        assert answer.read(len("first part, ")) == b"first part, "
        server.process.send_signal(signal.SIGTERM)
        if section == "hypercorn":
            server.refuses()
        else:
            server.until("hutting down")  # uvicorn, gunicorn's worker and granian say so, in capitals or not
        (tmp_path / "go").touch()
        assert answer.read() == b"second part"
    assert server.process.wait(50) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.printed


@pytest.mark.parametrize(("section", "line"), lines("--workers", without=("aiohttp_app", "python -m", *TLS)))
def test_a_killed_worker_is_replaced(serve, section, line):
    server = serve(section, line)
    pids = set()
    while len(pids) < 2:
        pids.add(int(server.get("/pid")))
    os.kill(pids.pop(), signal.SIGKILL)
    while len(pids) < 2:
        with contextlib.suppress(ConnectionError):  # the connection went to the one that was killed
            pids.add(int(server.get("/pid")))
    assert server.get() == "running on ironloop._loop\n"
    assert server.stop() == 0


def test_a_changed_application_is_loaded_again(serve, tmp_path):
    line = next(line for line in page()["uvicorn"].lines if "--reload" in line)
    server = serve("uvicorn", line)
    assert server.get() == "running on ironloop._loop\n"
    answer, written = "running on ironloop._loop\n", 0.0
    while answer == "running on ironloop._loop\n":
        # uvicorn compares times of files: what is changed before its first look goes unseen.
        if time.monotonic() > written + 2:
            (tmp_path / "app.py").write_text(APP.read_text().replace("running on", "again on"))
            written = time.monotonic()
        with contextlib.suppress(ConnectionError):  # the process that is being replaced had accepted the connection
            answer = server.get()
    assert answer == "again on ironloop._loop\n"
    assert server.stop() in (0, -signal.SIGTERM)


def test_a_loop_that_is_named_is_not_replaced_by_the_launcher(serve, tmp_path, port):
    line = next(line for line in page()["uvicorn"].lines if line.startswith("python -m ironloop"))
    shutil.copy(APP, tmp_path / "app.py")
    command = [*page()["uvicorn"].command(line, port), "--loop", "asyncio"]
    with serving(command, tmp_path, port) as server:
        assert server.get() == "running on asyncio.unix_events\n"


def test_gunicorn_serves_an_aiohttp_application(serve, tmp_path):
    page()["aiohttp"].write(tmp_path)
    line = next(line for line in page()["gunicorn"].lines if "aiohttp_app" in line)
    server = serve("gunicorn", line, options=ONE_WORKER)
    assert server.get() == "running on ironloop._loop\n"
    assert server.stop() == 0


TLS_OPTIONS = {
    "uvicorn": ["--ssl-certfile", "certificate.pem", "--ssl-keyfile", "key.pem"],
    "gunicorn": ["--certfile", "certificate.pem", "--keyfile", "key.pem"],
}
#: gunicorn's SIGTERM is lost on a worker that is just starting, and waited for until --graceful-timeout: 30 seconds.
ONE_WORKER = ["--workers", "1"]


@pytest.mark.parametrize(
    ("section", "line"), lines("--loop", without=("--workers", "--reload")) + lines("-k", "ironloop.")
)
def test_tls_is_served(serve, section, line):
    server = serve(section, line, options=[*TLS_OPTIONS[section], *ONE_WORKER])
    with connected(server, tls=True) as connection:
        data = os.urandom(3_000_000)
        connection.request("POST", "/digest", body=data)
        assert connection.getresponse().read().decode() == hashlib.sha256(data).hexdigest()
        connection.request("GET", "/pattern")
        assert connection.getresponse().read() == bytes(range(250)) * 12_000
    assert server.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in server.printed


@pytest.mark.parametrize(
    "line", [line for line in page()["hypercorn"].lines if any(word in line for word in TLS) and "quic" not in line]
)
def test_hypercorn_speaks_http_2_over_tls(serve, line):
    import httpx

    server = serve("hypercorn", line)
    with httpx.Client(
        http2=True, verify=client_context(), base_url=f"https://127.0.0.1:{server.port}", trust_env=False, timeout=50
    ) as client:
        answer = client.get("/")
        assert (answer.text, answer.http_version) == ("running on ironloop._loop\n", "HTTP/2")
        data = os.urandom(3_000_000)
        assert client.post("/digest", content=data).text == hashlib.sha256(data).hexdigest()
        assert client.get("/pattern").content == bytes(range(250)) * 12_000
    assert server.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in server.printed
