"""curl as the client of our server: downloads, uploads, versions, kept connections, client certificates, refusals."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.peers.http import http_server, pattern
from tests.peers.programs import output_of, program, running

VERSIONS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def curl(tls):
    """`curl(*options)` is a command line that fails on errors and trusts the tests' authority alone."""
    path = program("curl")

    def command(*options, version="1.3"):
        limits = ("--tlsv1.2", "--tls-max", version, "--noproxy", "*")
        return (path, "--no-progress-meter", "--fail", "--cacert", tls.path("authority"), *limits, *options)

    return command


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_a_large_body_is_downloaded(run, tls, curl, version, key):
    size = 32 << 20

    async def main():
        async with http_server(tls.server_context(key)) as server:
            output, _ = await output_of(*curl(f"https://localhost:{server.port}/{size}", version=version))
            assert server.ssl_object.version() == VERSIONS[version]
            assert len(output) == size
            assert output == pattern(size)

    run(main)


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_a_large_body_is_uploaded(run, tls, curl, version, key, body, tmp_path):
    (tmp_path / "body").write_bytes(body * 4)

    async def main():
        async with http_server(tls.server_context(key)) as server:
            url = f"https://localhost:{server.port}/upload"
            output, _ = await output_of(*curl("-T", str(tmp_path / "body"), url, version=version))
            assert output.decode() == hashlib.sha256(body * 4).hexdigest()

    run(main)


@versions
def test_a_connection_is_used_again(run, tls, curl, version):
    async def main():
        async with http_server(tls.server_context()) as server:
            urls = [f"https://localhost:{server.port}/{size}" for size in range(0, 50_000, 1000)]
            output, _ = await output_of(*curl(*urls, version=version))
            assert output == b"".join(map(pattern, range(0, 50_000, 1000)))
            assert (server.connections, server.requests) == (1, 50)

    run(main)


def test_downloads_share_the_loop(run, tls, curl, tmp_path):
    size = 1 << 20

    async def main():
        async with http_server(tls.server_context()) as server:
            url = f"https://localhost:{server.port}/{size}"
            outputs = await asyncio.gather(*(output_of(*curl(url)) for _ in range(12)))
            assert server.connections == 12
            assert all(output == pattern(size) for output, _ in outputs)

    run(main)


def test_an_application_protocol_is_agreed_on(run, tls, curl):
    """curl offers h2 and http/1.1, and speaks the latter with who knows it alone."""

    async def main():
        context = tls.server_context()
        context.set_alpn_protocols(["http/1.1"])
        async with http_server(context) as server:
            output, errors = await output_of(*curl("-v", f"https://localhost:{server.port}/3"))
            assert output == pattern(3)
            assert "server accepted http/1.1" in errors
            assert server.ssl_object.selected_alpn_protocol() == "http/1.1"

    run(main)


@versions
def test_the_client_shows_its_certificate(run, tls, curl, version):
    async def main():
        async with http_server(tls.strict_server_context()) as server:
            url = f"https://localhost:{server.port}/3"
            await output_of(*curl("--cert", tls.path("client"), url, version=version))
            assert ("DNS", "client.test") in server.ssl_object.getpeercert()["subjectAltName"]
            async with running(*curl(url, version=version)) as client:
                assert await client.ended() in (35, 52, 56)  # an error of TLS, no answer, or an error of receiving
            assert server.requests == 1

    run(main)


@pytest.mark.parametrize("key", ["first", "expired", "stranger"])
def test_a_server_that_curl_refuses_serves_the_next(run, tls, curl, reports, key):
    async def main():
        async with http_server(tls.server_context(key)) as server:
            url = f"https://localhost:{server.port}/3"
            async with running(*curl(url)) as client:
                assert await client.ended() == 60
            assert server.requests == 0
            output, _ = await output_of(*curl("--insecure", url))
            assert output == pattern(3)

    run(main)


def test_a_client_that_leaves_in_mid_body_harms_nobody(run, tls, curl, reports):
    async def main():
        async with http_server(tls.server_context()) as server:
            async with running(*curl(f"https://localhost:{server.port}/{64 << 20}")) as client:
                await client.process.stdout.readexactly(1000)
                client.process.kill()
            while server.tasks:
                await asyncio.wait(server.tasks)
            output, _ = await output_of(*curl(f"https://localhost:{server.port}/3"))
            assert output == pattern(3)

    run(main)


def test_a_server_that_leaves_in_mid_body_is_noticed(run, tls, curl):
    async def main():
        async with http_server(tls.server_context()) as server:
            async with running(*curl(f"https://localhost:{server.port}/{64 << 20}")) as client:
                await client.process.stdout.readexactly(1000)
                server.writers[0].transport.abort()
                assert await client.ended() in (18, 56)  # less than was promised, or an error of receiving

    run(main)
