"""aiodns, whose c-ares opens and closes descriptors below `add_reader`, against a real dnsmasq."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.peers.programs import package, program, reserved_port
from tests.support.servers import serving

NAMES = {f"host{number}.test": f"192.0.2.{number}" for number in range(50)}


@pytest.fixture(scope="module")
def name_server():
    port = reserved_port()
    command = [program("dnsmasq"), "--keep-in-foreground", f"--port={port}", "--listen-address=127.0.0.1"]
    command += ["--bind-interfaces", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=", "--group="]
    command += ["--pid-file", "--local=/test/", "--txt-record=text.test,a text"]
    command += [f"--host-record={name},{address}" for name, address in NAMES.items()]
    with serving(command, port):
        yield port


def test_many_names_are_looked_up_at_once(run, name_server):
    aiodns = package("aiodns")

    async def main():
        resolver = aiodns.DNSResolver(nameservers=["127.0.0.1"], udp_port=name_server, tcp_port=name_server)
        answers = await asyncio.gather(*(resolver.query_dns(name, "A") for name in NAMES))
        assert [answer.answer[0].data.addr for answer in answers] == list(NAMES.values())
        assert (await resolver.query_dns("text.test", "TXT")).answer[0].data.data == b"a text"
        with pytest.raises(aiodns.error.DNSError):
            await resolver.query_dns("nobody.test", "A")
        await resolver.close()

    run(main)


def test_a_look_up_is_cancelled(run):
    aiodns = package("aiodns")

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:  # which c-ares asks again by its own timer
            silent.bind(("127.0.0.1", 0))
            silent.setblocking(False)
            port = silent.getsockname()[1]
            resolver = aiodns.DNSResolver(nameservers=["127.0.0.1"], udp_port=port, timeout=30)
            asking = asyncio.ensure_future(resolver.query_dns("host1.test", "A"))
            await asyncio.get_running_loop().sock_recv(silent, 512)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await resolver.close()

    run(main)
