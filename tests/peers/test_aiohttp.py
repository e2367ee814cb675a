"""aiohttp over https: its client against its server, both on our loop, and httpx against the same server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import ssl

import pytest

from tests.peers.http import pattern
from tests.peers.programs import package

SIZE = 16 << 20
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture
def aiohttp():
    package("aiohttp.web")
    return package("aiohttp")


@pytest.fixture
def site(aiohttp, tls):
    """`site()` serves an application by https; it gives the URL."""
    web = aiohttp.web

    async def fetch(request):
        return web.Response(body=pattern(int(request.match_info["size"])))

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(200):
            await response.write(b"%05d" % number * 1000)
        return response

    async def upload(request):
        digest = hashlib.sha256()
        async for piece in request.content.iter_chunked(1 << 16):
            digest.update(piece)
        return web.Response(text=digest.hexdigest())

    async def break_off(request):
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"x" * 1000)
        request.transport.abort()
        return response

    async def who(request):
        certificate = request.transport.get_extra_info("peercert")
        return web.json_response({"secure": request.secure, "names": certificate and certificate["subjectAltName"]})

    async def websocket(request):
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data[::-1])
        return socket

    @contextlib.asynccontextmanager
    async def start(context=None):
        application = web.Application(client_max_size=0)
        application.router.add_get("/fetch/{size}", fetch)
        application.router.add_get("/stream", stream)
        application.router.add_post("/upload", upload)
        application.router.add_get("/break", break_off)
        application.router.add_get("/who", who)
        application.router.add_get("/websocket", websocket)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context or tls.server_context()).start()
        try:
            yield f"https://localhost:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    return start


@pytest.fixture
def session(aiohttp, tls):
    """`session(url)` is a client of that site."""

    def start(url, context=None):
        return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=context or tls.client_context()))

    return start


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_large_bodies_go_both_ways(run, tls, site, session, version, key, body):
    async def main():
        context = tls.client_context()
        context.minimum_version = context.maximum_version = VERSIONS[version]
        async with site(tls.server_context(key)) as url, session(url, context) as client:
            async with client.get(f"/fetch/{SIZE}") as answer:
                assert await answer.read() == pattern(SIZE)
            async with client.post("/upload", data=io.BytesIO(body)) as answer:
                assert await answer.text() == hashlib.sha256(body).hexdigest()
            async with client.get("/stream") as answer:
                assert await answer.read() == b"".join(b"%05d" % number * 1000 for number in range(200))

    run(main)


def test_a_hundred_requests_at_once(run, tls, site, session):
    async def fetch(client, size):
        async with client.get(f"/fetch/{size}") as answer:
            return await answer.read()

    async def main():
        async with site() as url, session(url) as client:
            answers = await asyncio.gather(*(fetch(client, size) for size in range(100)))
            assert answers == [pattern(size) for size in range(100)]

    run(main)


def test_messages_of_all_sizes_go_over_a_websocket(run, tls, site, session):
    async def main():
        async with site() as url, session(url) as client:
            async with client.ws_connect("/websocket", max_msg_size=0) as socket:
                for size in (0, 1, 125, 126, 16_384, 65_536, 1 << 20):
                    await socket.send_bytes(pattern(size))
                    assert await socket.receive_bytes() == pattern(size)[::-1]

    run(main)


def test_the_client_shows_its_certificate(run, tls, site, session):
    async def main():
        async with site(tls.strict_server_context()) as url, session(url, tls.client_context("client")) as client:
            async with client.get("/who") as answer:
                assert await answer.json() == {"secure": True, "names": [["DNS", "client.test"]]}

    run(main)


@pytest.mark.parametrize("key", ["first", "expired", "stranger"])
def test_a_bad_certificate_is_refused(run, tls, aiohttp, site, session, key):
    async def main():
        async with site(tls.server_context(key)) as url, session(url) as client:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await client.get("/who")

    run(main)


def test_an_answer_that_breaks_off_is_an_error(run, tls, aiohttp, site, session):
    async def main():
        async with site() as url, session(url) as client:
            with pytest.raises(aiohttp.ClientError):
                async with client.get("/break") as answer:
                    await answer.read()
            async with client.get("/fetch/5") as answer:
                assert await answer.read() == pattern(5)

    run(main)


def test_httpx_fetches_and_uploads(run, tls, site, body):
    httpx = package("httpx")

    async def main():
        async with site() as url:
            settings = {"verify": tls.client_context(), "trust_env": False, "timeout": 40}
            async with httpx.AsyncClient(base_url=url, **settings) as client:
                assert (await client.get(f"/fetch/{SIZE}")).content == pattern(SIZE)
                assert (await client.post("/upload", content=body)).text == hashlib.sha256(body).hexdigest()
                answers = await asyncio.gather(*(client.get(f"/fetch/{size}") for size in range(50)))
                assert [answer.content for answer in answers] == [pattern(size) for size in range(50)]

    run(main)
