"""hypercorn serves HTTP/3 by aioquic, over datagrams of ironloop's; the client is aioquic on the loop under test."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from pathlib import Path

from tests.peers.programs import package
from tests.support.certificate import PEM, write_files
from tests.support.page import page
from tests.support.web_servers import serving

NEEDS = ("aioquic", "hypercorn")
APP = Path(__file__).parent / "apps" / "app.py"


def client_class():
    h3 = package("aioquic.h3.connection")
    events = package("aioquic.h3.events")

    class Client(package("aioquic.asyncio.protocol").QuicConnectionProtocol):
        """Sends requests, and collects the bodies of the answers."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.connection = h3.H3Connection(self._quic)
            self.answers = {}

        def quic_event_received(self, event):
            for part in self.connection.handle_event(event):
                if isinstance(part, (events.DataReceived, events.HeadersReceived)) and part.stream_id in self.answers:
                    body, answer = self.answers[part.stream_id]
                    if isinstance(part, events.DataReceived):
                        body += part.data
                    if part.stream_ended:
                        answer.set_result(bytes(body))

        async def request(self, path, data=b""):
            stream = self._quic.get_next_available_stream_id()
            answer = asyncio.get_running_loop().create_future()
            self.answers[stream] = bytearray(), answer
            method = b"POST" if data else b"GET"
            headers = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
            self.connection.send_headers(stream, headers, end_stream=not data)
            if data:
                self.connection.send_data(stream, data, end_stream=True)
            self.transmit()
            return await answer

    return Client


def test_hypercorn_speaks_http_3(run, tmp_path, port):
    connect = package("aioquic.asyncio.client").connect
    configuration = package("aioquic.quic.configuration").QuicConfiguration(is_client=True, alpn_protocols=["h3"])
    configuration.load_verify_locations(cadata=PEM[PEM.index("-----BEGIN CERTIFICATE") :].encode())

    async def main():
        options = {"configuration": configuration, "create_protocol": client_class()}
        async with connect("localhost", port, local_port=0, **options) as client:
            data = random.Random(3).randbytes(1_000_000)
            assert (await client.request(b"/digest", data)).decode() == hashlib.sha256(data).hexdigest()
            assert await client.request(b"/pattern") == bytes(range(250)) * 12_000
            answers = await asyncio.gather(*(client.request(b"/") for _ in range(50)))
            assert answers == [b"running on ironloop._loop\n"] * 50

    write_files(tmp_path)
    shutil.copy(APP, tmp_path / "app.py")
    line = next(line for line in page()["hypercorn"].lines if "quic" in line)
    with serving(page()["hypercorn"].command(line, port), tmp_path, port) as server:
        server.until("QUIC")
        run(main)
        assert server.stop() == 0
        assert "Traceback" not in server.printed
