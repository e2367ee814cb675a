"""nginx over TLS: as the server of our clients, and as a proxy whose upstream, by https, is our server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import ssl

import pytest

from tests.peers.http import http_server, pattern
from tests.peers.programs import output_of, package, program, reserved_port, running

SIZE = 16 << 20
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
versions = pytest.mark.parametrize("version", VERSIONS)

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    client_max_body_size 0;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:sessions:1m;
    {upstream}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        root {folder};
        ssl_client_certificate {authority};
        ssl_verify_client {verify_client};
        {locations}
    }}
}}
"""
FILES = """
        location /facts {
            return 200 "$ssl_protocol $ssl_session_reused $ssl_client_verify $server_protocol";
        }
        location /upload/ {
            dav_methods PUT;
            create_full_put_path on;
        }
"""
UPSTREAM = """
    upstream ours {{
        server 127.0.0.1:{port};
        keepalive 4;
    }}
"""
PROXY = """
        location / {{
            proxy_pass https://ours;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_ssl_protocols {protocol};
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
            proxy_ssl_certificate {client};
            proxy_ssl_certificate_key {client};
        }}
"""


@pytest.fixture
def nginx(tls, tmp_path):
    """`nginx(...)` starts one in a folder of its own; its port is `port`."""
    path = program("nginx")

    @contextlib.asynccontextmanager
    async def start(locations=FILES, upstream="", verify_client="off", key="localhost"):
        port = reserved_port()
        settings = {"certificate": tls.path(key), "authority": tls.path("authority"), "verify_client": verify_client}
        (tmp_path / "nginx.conf").write_text(
            CONFIGURATION.format(folder=tmp_path, port=port, locations=locations, upstream=upstream, **settings)
        )
        async with running(path, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")) as server:
            await server.says('using the "epoll" event method')  # which it chooses when it listens already
            server.port = port
            yield server

    return start


@pytest.fixture
def proxy(tls, nginx):
    """`proxy(server)` starts nginx in front of our server."""

    def start(server, version="1.3"):
        settings = {"authority": tls.path("authority"), "client": tls.path("client"), "protocol": f"TLSv{version}"}
        return nginx(PROXY.format(**settings), UPSTREAM.format(port=server.port))

    return start


async def fetch(tls, port, request, context=None, body=b""):
    """The body of an answer, over a connection of its own."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context or tls.client_context())
    head = f"{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    status = await reader.readline()
    assert status.split()[1] in (b"200", b"201"), status
    await reader.readuntil(b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def limited(context, version):
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_streams_fetch_and_upload(run, tls, nginx, version, key, body, tmp_path):
    (tmp_path / "file").write_bytes(body)

    async def main():
        context = limited(tls.client_context(), version)
        async with nginx(key=key) as server:
            assert (await fetch(tls, server.port, "GET /facts", context)).startswith(f"TLSv{version} ".encode())
            assert await fetch(tls, server.port, "GET /file", context) == body
            await fetch(tls, server.port, "PUT /upload/file", context, body[::-1])
            assert (tmp_path / "upload" / "file").read_bytes() == body[::-1]

    run(main)


@versions
def test_the_client_shows_its_certificate(run, tls, nginx, version):
    async def main():
        async with nginx(verify_client="on") as server:
            context = limited(tls.client_context("client"), version)
            assert b"SUCCESS" in await fetch(tls, server.port, "GET /facts", context)

    run(main)


def test_http_2_is_agreed_on(run, tls, nginx):
    async def main():
        context = tls.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with nginx() as server:
            _, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            writer.transport.abort()  # nginx has begun to speak, which would be an error after close()

    run(main)


@pytest.mark.parametrize("key", ["first", "expired", "stranger"])
def test_a_bad_certificate_is_refused(run, tls, nginx, key):
    async def main():
        async with nginx(key=key) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await fetch(tls, server.port, "GET /facts")

    run(main)


def test_a_server_that_ends_ends_its_connections(run, tls, nginx):
    async def main():
        async with nginx() as server:
            reader, writer = await asyncio.open_connection("localhost", server.port, ssl=tls.client_context())
            writer.write(b"GET /facts HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"HTTP/1.1")
            server.process.terminate()
            await server.ended()
            await reader.read()
            writer.close()
            await writer.wait_closed()

    run(main)


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_the_proxy_carries_large_bodies_both_ways(run, tls, proxy, version, key, body):
    async def main():
        async with http_server(tls.strict_server_context() if key == "localhost" else tls.server_context(key)) as ours:
            async with proxy(ours, version) as server:
                assert await fetch(tls, server.port, f"GET /{SIZE}") == pattern(SIZE)
                digest = await fetch(tls, server.port, "PUT /body", body=body)
                assert digest.decode() == hashlib.sha256(body).hexdigest()
                assert ours.ssl_object.version() == f"TLSv{version}"
                if key == "localhost":
                    assert ("DNS", "client.test") in ours.ssl_object.getpeercert()["subjectAltName"]

    run(main)


@versions
def test_the_proxy_keeps_connections_and_resumes_sessions(run, tls, proxy, version):
    async def main():
        async with http_server(tls.server_context()) as ours, proxy(ours, version) as server:
            for size in range(20):
                assert await fetch(tls, server.port, f"GET /{size}") == pattern(size)
            assert ours.connections == 1
            ours.writers[0].close()
            await asyncio.wait(ours.tasks)
            assert await fetch(tls, server.port, "GET /5") == pattern(5)
            assert ours.connections == 2
            assert ours.ssl_object.session_reused

    run(main)


def test_the_proxy_serves_many_at_once(run, tls, proxy):
    async def main():
        async with http_server(tls.server_context()) as ours, proxy(ours) as server:
            sizes = range(100_000, 130_000, 1000)
            answers = await asyncio.gather(*(fetch(tls, server.port, f"GET /{size}") for size in sizes))
            assert answers == [pattern(size) for size in sizes]

    run(main)


def test_curl_goes_through_the_proxy(run, tls, proxy):
    curl = program("curl")

    async def main():
        async with http_server(tls.server_context()) as ours, proxy(ours) as server:
            options = ("--no-progress-meter", "--fail", "--noproxy", "*", "--cacert", tls.path("authority"), "--http2")
            output, _ = await output_of(curl, *options, f"https://localhost:{server.port}/{SIZE}")
            assert output == pattern(SIZE)

    run(main)


def test_aiohttp_fetches_and_uploads(run, tls, nginx, body, tmp_path):
    aiohttp = package("aiohttp")
    (tmp_path / "file").write_bytes(body)

    async def main():
        async with nginx() as server:
            connector = aiohttp.TCPConnector(ssl=tls.client_context())
            async with aiohttp.ClientSession(f"https://localhost:{server.port}", connector=connector) as session:
                async with session.get("/facts") as answer:
                    assert (await answer.text()).startswith("TLSv1.3 ")
                async with session.get("/file") as answer:
                    assert await answer.read() == body
                async with session.put("/upload/file", data=io.BytesIO(body[::-1])) as answer:
                    assert answer.status == 201
            assert (tmp_path / "upload" / "file").read_bytes() == body[::-1]

    run(main)


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_fetches_and_uploads(run, tls, nginx, body, tmp_path, http2):
    httpx = package("httpx")
    if http2:
        package("h2")
    (tmp_path / "file").write_bytes(body)

    async def main():
        async with nginx() as server:
            url = f"https://localhost:{server.port}"
            settings = {"verify": tls.client_context(), "http2": http2, "trust_env": False, "timeout": 40}
            async with httpx.AsyncClient(base_url=url, **settings) as client:
                answer = await client.get("/facts")
                assert answer.text.endswith("HTTP/2.0" if http2 else "HTTP/1.1")
                answers = await asyncio.gather(*(client.get("/facts") for _ in range(20)))
                assert {each.status_code for each in answers} == {200}
                assert (await client.get("/file")).content == body
                assert (await client.put("/upload/file", content=body[::-1])).status_code == 201
            assert (tmp_path / "upload" / "file").read_bytes() == body[::-1]

    run(main)
