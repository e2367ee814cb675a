"""Arguments on TLS that make no sense, and what is said of them: CPython's words."""

from __future__ import annotations

import re
import socket
import ssl
import sys

import pytest

from tests.support.protocols import Recorder, close_all
from tests.tls.peers import listening, serve

ONLY_WITH_SSL = "{} is only meaningful with ssl"
NOT_POSITIVE = "{} should be a positive number, got {}"

timeouts = pytest.mark.parametrize(
    "name",
    [
        "ssl_handshake_timeout",
        pytest.param(
            "ssl_shutdown_timeout",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11"),
        ),
    ],
)

# CPython's create_connection forgets the socket if the TLS transport cannot be made.
forgets_sockets = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def says(text):
    return f"^{re.escape(text)}"


@timeouts
def test_timeouts_mean_nothing_without_ssl(run, loop, tmp_path, name):
    async def main():
        expected = says(ONLY_WITH_SSL.format(name))
        with pytest.raises(ValueError, match=expected):
            await loop.create_connection(Recorder, "127.0.0.1", 1, **{name: 1})
        with pytest.raises(ValueError, match=expected):
            await loop.create_server(Recorder, "127.0.0.1", 0, **{name: 1})
        with pytest.raises(ValueError, match=expected):
            await loop.create_unix_connection(Recorder, tmp_path / "socket", **{name: 1})
        with pytest.raises(ValueError, match=expected):
            await loop.create_unix_server(Recorder, tmp_path / "socket", **{name: 1})
        with socket.socket() as sock, pytest.raises(ValueError, match=expected):
            await loop.connect_accepted_socket(Recorder, sock, **{name: 1})

    run(main)


@timeouts
@pytest.mark.parametrize("value", [0, -1, -0.5])
@forgets_sockets
def test_timeouts_are_positive(run, loop, tls, name, value):
    async def main():
        with listening() as sock, pytest.raises(ValueError, match=says(NOT_POSITIVE.format(name, value))):
            await loop.create_connection(Recorder, *sock.getsockname(), ssl=tls.client_context(), **{name: value})

    run(main)


def test_a_server_name_means_nothing_without_ssl(run, loop, tmp_path):
    async def main():
        expected = says(ONLY_WITH_SSL.format("server_hostname"))
        for without in (None, False):
            with pytest.raises(ValueError, match=expected):
                await loop.create_connection(Recorder, "127.0.0.1", 1, ssl=without, server_hostname="localhost")
        with pytest.raises(ValueError, match=expected):
            await loop.create_unix_connection(Recorder, tmp_path / "socket", server_hostname="localhost")

    run(main)


def test_a_server_name_is_needed_without_a_host(run, loop, tls, tmp_path):
    async def main():
        context = tls.client_context()
        with socket.socket() as sock:
            with pytest.raises(ValueError, match=says("You must set server_hostname when using ssl without a host")):
                await loop.create_connection(Recorder, sock=sock, ssl=context)
        with pytest.raises(ValueError, match=says("You must set server_hostname when using ssl without a host")):
            await loop.create_connection(Recorder, None, 1, ssl=context)
        with pytest.raises(ValueError, match=says("you have to pass server_hostname when using ssl")):
            await loop.create_unix_connection(Recorder, tmp_path / "socket", ssl=context)

    run(main)


@pytest.mark.parametrize("name", [".localhost", "nul\0byte"])
@forgets_sockets
def test_a_name_that_is_none_is_refused(run, loop, tls, name):
    async def main():
        with listening() as sock, pytest.raises((ValueError, TypeError)):
            await loop.create_connection(Recorder, *sock.getsockname(), ssl=tls.client_context(), server_hostname=name)

    run(main)


@pytest.mark.parametrize("value", [True, False])
def test_a_server_needs_a_context(run, loop, tmp_path, value):
    async def main():
        expected = says("ssl argument must be an SSLContext or None")
        with pytest.raises(TypeError, match=expected):
            await loop.create_server(Recorder, "127.0.0.1", 0, ssl=value)
        with pytest.raises(TypeError, match=expected):
            await loop.create_unix_server(Recorder, tmp_path / "socket", ssl=value)

    run(main)


@pytest.mark.parametrize("value", [object(), "context", 5], ids=lambda value: type(value).__name__)
@forgets_sockets
def test_a_client_needs_a_context(run, loop, value):
    async def main():
        with listening() as sock, pytest.raises((TypeError, AttributeError)):
            await loop.create_connection(Recorder, *sock.getsockname(), ssl=value)

    run(main)


@forgets_sockets
def test_a_context_for_servers_is_no_context_for_clients(run, loop, tls):
    async def main():
        with listening() as sock, pytest.raises(ssl.SSLError, match="Cannot create a client socket with"):
            await loop.create_connection(Recorder, *sock.getsockname(), ssl=tls.server_context())

    run(main)


@forgets_sockets
def test_true_is_no_context_for_an_accepted_socket(run, loop):
    async def main():
        with listening() as sock:
            client = socket.create_connection(sock.getsockname())
            accepted, _ = sock.accept()
        with pytest.raises((ValueError, AttributeError, TypeError)):
            await loop.connect_accepted_socket(Recorder, accepted, ssl=True)
        client.close()
        accepted.close()

    run(main)


def test_a_context_for_clients_costs_a_server_its_clients(run, loop, tls, reports, better):
    """CPython's loop says so in debug mode only, and leaves the connection to the collector."""

    async def main():
        server, _ = await serve(tls, context=tls.client_context())
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await loop.create_connection(Recorder, *server.sockets[0].getsockname(), ssl=tls.client_context())
        await close_all(server)

    run(main)
    # Since 3.14 `wrap_bio` itself asks for the name that the context is to check.
    assert [type(report["exception"]) for report in reports] in ([ssl.SSLError] * 2, [ValueError] * 2)
