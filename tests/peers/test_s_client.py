"""`openssl s_client` as the client of our server: versions, names, certificates, sessions, key updates, ends."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl

import pytest

from tests.peers.programs import running
from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import serve

VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}
versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def s_client(openssl, tls):
    """`s_client(server, *options)` starts it; as it is told, it ends if the server's certificate is not good."""

    def start(server, *options, name="localhost"):
        host, port = server.sockets[0].getsockname()
        checks = ("-CAfile", tls.path("authority"), "-verify_return_error", "-verify_hostname", name)
        named = ("-connect", f"{host}:{port}", "-servername", name)
        return running(openssl, "s_client", *named, *checks, *options, cwd=tls.folder)

    return start


async def talks(client, line="hello\n"):
    """The client sends a line, which the server sends back."""
    client.type(line)
    await client.says(line)


async def leaves(client):
    """The client ends the connection in order."""
    client.type("Q\n")
    assert await client.ended() == 0


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_lines_come_back(run, tls, s_client, version, key, modern):
    async def main():
        server, made = await serve(tls, Echo, tls.server_context(key))
        async with s_client(server, "-brief", version) as client:
            await client.says(f"Protocol version: {VERSIONS[version]}\n")
            await client.says("Verification: OK\n")
            for number in range(100):
                await talks(client, f"line {number}\n")
            await leaves(client)
        peer = await made.get()
        assert await peer.lost is None
        assert peer.events[-2:] == ["eof", "lost"]
        await close_all(server)

    run(main)


@versions
def test_an_application_protocol_is_agreed_on(run, tls, s_client, version):
    async def main():
        context = tls.server_context()
        context.set_alpn_protocols(["http/1.1", "h2"])
        server, made = await serve(tls, Echo, context)
        async with s_client(server, version, "-alpn", "h2,other") as client:
            await client.says("ALPN protocol: h2\n")
            ssl_object = (await made.get()).transport.get_extra_info("ssl_object")
            assert ssl_object.selected_alpn_protocol() == "h2"
            await leaves(client)
        await close_all(server)

    run(main)


@versions
def test_the_server_name_chooses_the_certificate(run, tls, s_client, version):
    async def main():
        contexts = {"first": tls.server_context("first"), "second": tls.server_context("second")}

        def choose(ssl_object, name, _context):
            ssl_object.context = contexts[name.partition(".")[0]]

        context = tls.server_context()
        context.sni_callback = choose
        server, _ = await serve(tls, Echo, context)
        for name in ("first.test", "second.test"):
            async with s_client(server, "-brief", version, name=name) as client:
                await client.says("Verification: OK\n")
                await client.says(f"Verified peername: {name}\n")
                await leaves(client)
        await close_all(server)

    run(main)


@versions
def test_the_client_shows_its_certificate(run, tls, s_client, version):
    async def main():
        server, made = await serve(tls, Echo, tls.strict_server_context())
        async with s_client(server, "-brief", version, "-cert", tls.path("client")) as client:
            await talks(client)
            certificate = (await made.get()).transport.get_extra_info("peercert")
            assert ("DNS", "client.test") in certificate["subjectAltName"]
        await close_all(server)

    run(main)


@versions
def test_a_client_without_a_certificate_is_told_that_it_needs_one(run, tls, s_client, reports, version, better):
    async def main():
        server, made = await serve(tls, Echo, tls.strict_server_context())
        async with s_client(server, version) as client:
            await client.says("alert number 116" if version == "-tls1_3" else "alert number 40")
            assert await client.ended() == 1
        assert (await made.get()).events == []
        await close_all(server)

    run(main)


def test_sessions_of_tls_1_2_are_resumed_by_reconnecting(run, tls, s_client):
    async def main():
        server, made = await serve(tls, Echo)
        async with s_client(server, "-tls1_2", "-reconnect") as client:
            await client.says("New, TLSv1.2")
            for _ in range(5):
                await client.says("Reused, TLSv1.2")
            await talks(client)
        reused = [(await made.get()).transport.get_extra_info("ssl_object").session_reused for _ in range(6)]
        assert reused == [False] + [True] * 5
        await close_all(server)

    run(main)


@versions
def test_a_session_that_was_saved_is_resumed(run, tls, s_client, version, tmp_path):
    async def main():
        server, made = await serve(tls, Echo)
        saved = str(tmp_path / "session.pem")
        for options, expected in ((["-sess_out", saved], "New, TLS"), (["-sess_in", saved], "Reused, TLS")):
            async with s_client(server, version, *options) as client:
                await client.says(expected)
                client.type("hello\n")  # whose answer comes behind the tickets
                await client.says("hello\n")
                await leaves(client)
            assert (await made.get()).transport.get_extra_info("ssl_object").session_reused == (expected[0] == "R")
        await close_all(server)

    run(main)


@pytest.mark.parametrize("command", ["K", "k"])
def test_keys_are_updated_as_often_as_the_client_likes(run, tls, s_client, command):
    """`K` asks the server for new keys, too, `k` does not."""

    async def main():
        server, _ = await serve(tls, Echo)
        async with s_client(server, "-tls1_3", "-msg") as client:
            for number in range(20):
                client.type(f"{command}\n")
                await client.says("KEYUPDATE\n")
                client.type(f"line {number}\n")
                said = await client.says(f"line {number}\n")
                assert ">>> TLS 1.3, Handshake [length 0005], KeyUpdate" in said
                assert ("<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in said) == (command == "K")
            await leaves(client)
        await close_all(server)

    run(main)


def test_renegotiation_is_refused(run, tls, s_client, reports):
    """OpenSSL's default for servers; the client ends the connection, the next one is served."""

    async def main():
        server, made = await serve(tls, Echo)
        for _ in range(2):
            async with s_client(server, "-tls1_2") as client:
                await talks(client, "before\n")
                client.type("R\n")
                await client.says("RENEGOTIATING\n")
                await client.says("no renegotiation")
                assert await client.ended() == 1
            peer = await made.get()
            await peer.lost
            assert peer.data == b"before\n"
        await close_all(server)

    run(main)


@versions
def test_close_notify_is_said_and_answered(run, tls, s_client, version):
    async def main():
        server, made = await serve(tls, Recorder)
        async with s_client(server, version, "-msg") as client:
            client.type("bye\n")
            peer = await made.get()
            assert await peer.received(4) == b"bye\n"
            peer.transport.close()
            await client.says(f"<<< {VERSIONS[version].replace('v', ' ')}, Alert [length 0002], warning close_notify\n")
            await client.says("closed\n")
            assert await client.ended() == 0
            assert await peer.lost is None
        await close_all(server)

    run(main)


@versions
def test_a_client_that_is_killed_ends_without_close_notify(run, tls, s_client, version):
    async def main():
        server, made = await serve(tls, Echo)
        async with s_client(server, version) as client:
            client.type("hello\n")
            await client.says("hello\n")  # it would reset the connection if there was something left to read
            client.process.kill()
            peer = await made.get()
            assert await peer.lost is None
            assert peer.events[-2:] == ["eof", "lost"]
        await close_all(server)

    run(main)


@versions
def test_a_connection_that_is_aborted_ends_without_close_notify(run, tls, s_client, version):
    async def main():
        server, made = await serve(tls, Echo)
        async with s_client(server, version, "-msg") as client:
            await talks(client)
            (await made.get()).transport.abort()
            assert await client.ended() == 1
            assert "<<< TLS" in client.printed
            assert not re.search("<<<.*close_notify", client.printed)
        await close_all(server)

    run(main)


class Exchange(Recorder):
    """Takes so many bytes, answers with as many, and closes."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.hash = hashlib.sha256()

    def data_received(self, data):
        self.size -= len(data)
        self.hash.update(data)
        if self.size == 0:
            self.transport.write(self.answer)
            self.transport.close()


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_large_bodies_go_both_ways(run, tls, s_client, version, key, body):
    async def main():
        def factory():
            protocol = Exchange(len(body))
            protocol.answer = body[::-1]
            return protocol

        server, made = await serve(tls, factory, tls.server_context(key))
        async with s_client(server, "-quiet", version) as client:
            client.process.stdin.write(body)
            await client.process.stdin.drain()
            assert await client.ended() == 0
            assert client.output.endswith(body[::-1])
        peer = await made.get()
        assert await peer.lost is None
        assert peer.hash.digest() == hashlib.sha256(body).digest()
        await close_all(server)

    run(main)


@pytest.mark.parametrize("suite", ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"])
def test_every_suite_of_tls_1_3_is_spoken(run, tls, s_client, suite):
    async def main():
        server, made = await serve(tls, Echo)
        async with s_client(server, "-tls1_3", "-brief", "-ciphersuites", suite) as client:
            await client.says(f"Ciphersuite: {suite}\n")
            await talks(client)
            assert (await made.get()).transport.get_extra_info("cipher")[0] == suite
        await close_all(server)

    run(main)


def test_many_clients_at_once(run, tls, s_client):
    async def main():
        server, _ = await serve(tls, Echo)

        async def visit(number):
            async with s_client(server, "-brief") as client:
                await talks(client, f"I am {number}\n")
                await leaves(client)

        await asyncio.gather(*map(visit, range(20)))
        await close_all(server)

    run(main)


def test_old_versions_are_refused_with_an_alert(run, tls, s_client, reports, better):
    async def main():
        context = tls.server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        server, _ = await serve(tls, Echo, context)
        async with s_client(server, "-tls1_2") as client:
            await client.says("alert protocol version")
            assert await client.ended() == 1
        await close_all(server)

    run(main)
