"""Metrics for Prometheus, read back by its own parser, and served by real servers."""

from __future__ import annotations

import asyncio
import socket

import ironloop
import pytest
from ironloop.metrics import CONTENT_TYPE, asgi, prometheus

parser = pytest.importorskip("prometheus_client.parser")


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


def families(text):
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def test_the_text_is_what_prometheus_reads(loop):
    loop.run_until_complete(asyncio.sleep(0.001))
    found = families(prometheus(loop))
    assert found["ironloop_callbacks"].type == "counter"
    assert found["ironloop_callbacks"].samples[0].value == loop.metrics().callbacks
    assert found["ironloop_ready"].type == "gauge"
    assert found["ironloop_timers_fired"].samples[0].value == 1


def test_histograms_are_cumulative_and_end_with_all(loop):
    loop.run_until_complete(asyncio.sleep(0.001))
    samples = families(prometheus(loop))["ironloop_callback_seconds"].samples
    buckets = [sample.value for sample in samples if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    (count,) = [sample.value for sample in samples if sample.name.endswith("_count")]
    assert buckets[-1] == count == loop.metrics().callbacks


def test_labels_are_escaped(loop):
    found = families(prometheus(loop, {"job": 'a"b\\c\nd'}))
    assert found["ironloop_turns"].samples[0].labels == {"job": 'a"b\\c\nd'}
    bucket = found["ironloop_lag_seconds"].samples[0]
    assert bucket.labels == {"job": 'a"b\\c\nd', "le": "1e-06"}


def test_without_a_loop_it_is_the_running_one(loop):
    async def main():
        return prometheus()

    assert "ironloop_turns_total" in loop.run_until_complete(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        prometheus()


def test_another_loop_has_no_metrics():
    other = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match=r"ironloop\.Loop"):
        prometheus(other)
    other.close()


def test_an_asgi_server_gets_the_text(loop):
    sent = []

    async def send(message):
        sent.append(message)

    loop.run_until_complete(asgi({"type": "http"}, None, send))
    assert sent[0]["status"] == 200
    assert sent[0]["headers"] == [(b"content-type", CONTENT_TYPE.encode())]
    assert "ironloop_turns" in families(sent[1]["body"].decode())
    with pytest.raises(RuntimeError, match="only HTTP"):
        loop.run_until_complete(asgi({"type": "websocket"}, None, send))


def test_uvicorn_answers_with_the_text(loop):
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(asgi, log_config=None, access_log=False, lifespan="off", loop="none")
    server = uvicorn.Server(config)

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            server.should_exit = True
            await serving
        return head.decode(), body.decode()

    head, body = loop.run_until_complete(main())
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert f"content-type: {CONTENT_TYPE}" in head
    assert "\nironloop_connections_accepted_total 1" in body


def test_an_aiohttp_server_answers_with_the_text(loop):
    web = pytest.importorskip("aiohttp.web")
    client = pytest.importorskip("aiohttp")

    async def main():
        application = web.Application()
        application.router.add_get("/metrics", ironloop.metrics.aiohttp)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with client.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
            assert response.headers["content-type"] == CONTENT_TYPE
            text = await response.text()
        await runner.cleanup()
        return text

    assert families(loop.run_until_complete(main()))["ironloop_connections_accepted"].samples[0].value == 1
