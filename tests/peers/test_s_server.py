"""`openssl s_server` as the server of our clients: versions, names, certificates, sessions, key updates, ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl

import pytest

from tests.peers.programs import running
from tests.support.protocols import Recorder, close_all
from tests.tls.test_tls_sessions import resuming_context

VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}
versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def s_server(openssl, tls):
    """`s_server(*options, key=...)` starts it; it has its address as `address`."""

    @contextlib.asynccontextmanager
    async def start(*options, key="localhost"):
        certificate = ("-cert", tls.path(key), "-key", tls.path(key))
        listening = ("-accept", "127.0.0.1:0")
        async with running(openssl, "s_server", *listening, *certificate, *options, cwd=tls.folder) as server:
            await server.says("ACCEPT ")
            host, _, port = (await server.says("\n")).strip().rpartition(":")
            server.address = host, int(port)
            yield server

    return start


async def connect(tls, server, factory=Recorder, context=None, **options):
    options.setdefault("server_hostname", "localhost")
    context = context or tls.client_context()
    create_connection = asyncio.get_running_loop().create_connection
    return (await create_connection(factory, *server.address, ssl=context, **options))[1]


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_lines_come_back_reversed(run, tls, s_server, version, key):
    async def main():
        async with s_server(version, "-rev", key=key) as server:
            client = await connect(tls, server)
            assert client.transport.get_extra_info("ssl_object").version() == VERSIONS[version]
            for number in range(100):
                client.data.clear()
                client.transport.write(b"line %d\n" % number)
                expected = b"line %d" % number
                assert await client.received(len(expected) + 1) == expected[::-1] + b"\n"
            client.transport.close()
            assert await client.lost is None
            await server.says("CONNECTION CLOSED\n")

    run(main)


def test_an_application_protocol_is_agreed_on(run, tls, s_server):
    async def main():
        context = tls.client_context()
        context.set_alpn_protocols(["http/1.1", "h2"])
        async with s_server("-alpn", "h2,other") as server:
            client = await connect(tls, server, context=context)
            assert client.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            await server.says("ALPN protocols selected: h2\n")
            await close_all(client)

    run(main)


@versions
def test_the_server_name_chooses_the_certificate(run, tls, s_server, version):
    async def main():
        second = ("-cert2", tls.path("second"), "-key2", tls.path("second"), "-servername", "second.test")
        async with s_server(version, *second, "-servername_fatal") as server:
            client = await connect(tls, server, server_hostname="second.test")
            certificate = client.transport.get_extra_info("peercert")
            assert certificate["subjectAltName"] == (("DNS", "second.test"),)
            await close_all(client)

    run(main)


def test_a_server_of_another_name_is_refused_and_told_so(run, tls, s_server, better):
    async def main():
        async with s_server(key="first") as server:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await connect(tls, server)
            await server.says("sslv3 alert bad certificate")

    run(main)


def test_a_server_that_signed_itself_is_refused_and_told_so(run, tls, s_server, better):
    async def main():
        async with s_server(key="stranger") as server:
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                await connect(tls, server)
            assert raised.value.verify_message == "self-signed certificate"
            await server.says("tlsv1 alert unknown ca")

    run(main)


@versions
def test_the_client_shows_its_certificate(run, tls, s_server, version):
    async def main():
        checks = ("-CAfile", tls.path("authority"), "-Verify", "1", "-verify_return_error")
        async with s_server(version, *checks) as server:
            client = await connect(tls, server, context=tls.client_context("client"))
            await server.says("CN = client\n")
            await server.says("CIPHER is")
            await close_all(client)

    run(main)


@versions
def test_a_server_that_wants_a_certificate_says_so(run, tls, s_server, version):
    """In TLS 1.3 after the handshake, which is over for the client."""

    async def main():
        async with s_server(version, "-CAfile", tls.path("authority"), "-Verify", "1") as server:
            if version == "-tls1_2":
                with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                    await connect(tls, server)
                return
            client = await connect(tls, server)
            error = await client.lost
            assert isinstance(error, ssl.SSLError)
            assert error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"

    run(main)


def test_a_certificate_can_be_asked_for_later(run, tls, s_server):
    async def main():
        context = tls.client_context("client")
        context.post_handshake_auth = True
        async with s_server("-tls1_3", "-CAfile", tls.path("authority")) as server:
            client = await connect(tls, server, context=context)
            await server.says("CIPHER is")
            server.type("c\n")
            await server.says("CN = client\n")
            server.type("thank you\n")
            assert await client.received(10) == b"thank you\n"
            await close_all(client)

    run(main)


@versions
def test_a_session_is_resumed(run, tls, s_server, version):
    async def main():
        context = resuming_context(tls, ssl.TLSVersion[VERSIONS[version].replace(".", "_")])
        async with s_server("-rev") as server:
            for expected in (False, True, True):
                client = await connect(tls, server, context=context)
                client.transport.write(b"abc\n")  # behind whose answer come the tickets of TLS 1.3
                assert await client.received(4) == b"cba\n"
                ssl_object = client.transport.get_extra_info("ssl_object")
                assert ssl_object.session_reused is expected
                context.session = ssl_object.session
                client.transport.close()
                await client.lost

    run(main)


@pytest.mark.parametrize("command", ["K", "k"])
def test_keys_are_updated_as_often_as_the_server_likes(run, tls, s_server, command):
    """`K` asks the client for new keys, too, `k` does not."""

    async def main():
        async with s_server("-tls1_3", "-msg") as server:
            client = await connect(tls, server)
            await server.says("CIPHER is")
            for number in range(20):
                client.data.clear()
                server.type(f"{command}\n")
                await server.says(">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
                server.type(f"line {number}\n")
                expected = f"line {number}\n"
                assert await client.received(len(expected)) == expected.encode()
                client.transport.write(b"answer %d\n" % number)
                said = await server.says(f"answer {number}\n")
                assert ("<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in said) == (command == "K")
            await close_all(client)

    run(main)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_server_may_renegotiate_if_the_context_allows_it(run, tls, s_server, allowed):
    async def main():
        context = tls.client_context()
        if not allowed:
            context.options |= ssl.OP_NO_RENEGOTIATION
        async with s_server("-tls1_2", "-msg") as server:
            client = await connect(tls, server, context=context)
            await server.says("CIPHER is")
            server.type("R\n")
            await server.says(">>> TLS 1.2, Handshake [length 0004], HelloRequest")
            if allowed:
                await server.says("<<< TLS 1.2, Handshake")
                await server.says("Finished")
                server.type("again\n")
                assert await client.received(6) == b"again\n"
                client.transport.write(b"still here\n")
                await server.says("still here\n")
            else:
                await server.says("warning no_renegotiation")
            await close_all(client)

    run(main)


@versions
def test_close_notify_is_an_end(run, tls, s_server, version, modern):
    async def main():
        async with s_server(version, "-rev") as server:
            client = await connect(tls, server)
            client.transport.write(b"last\nCLOSE\n")
            assert await client.lost is None
            assert client.data == b"tsal\n"
            assert client.events[-2:] == ["eof", "lost"]
            await server.says("CONNECTION CLOSED\n")

    run(main)


@versions
def test_close_says_close_notify(run, tls, s_server, version):
    async def main():
        async with s_server(version, "-msg") as server:
            client = await connect(tls, server)
            client.transport.write(b"bye\n")
            client.transport.close()
            await server.says("bye\n")
            await server.says(f"<<< {VERSIONS[version].replace('v', ' ')}, Alert [length 0002], warning close_notify\n")
            assert await client.lost is None

    run(main)


@versions
@pytest.mark.parametrize("how", ["killed", "closed"])
def test_an_end_without_close_notify_is_an_end(run, tls, s_server, version, how):
    async def main():
        async with s_server(version) as server:
            client = await connect(tls, server)
            await server.says("CIPHER is")
            server.type("hello\n")
            await client.received(6)
            if how == "killed":
                server.process.kill()
            else:
                server.type("q\n")
            assert await client.lost is None
            assert client.events[-2:] == ["eof", "lost"]

    run(main)


@versions
@pytest.mark.parametrize("key", ["localhost", "rsa"])
def test_large_bodies_go_both_ways(run, tls, s_server, version, key, body):
    text = re.sub(rb"[\0\r\n]", b"-", body)
    lines = [text[start : start + 1000] for start in range(0, len(text), 1000)]

    async def main():
        async with s_server(version, "-rev", key=key) as server:
            client = await connect(tls, server)
            client.transport.writelines(line + b"\n" for line in lines)
            assert await client.received(len(body) + len(lines)) == b"".join(line[::-1] + b"\n" for line in lines)
            await close_all(client)

    run(main)


@versions
def test_a_file_is_downloaded(run, tls, s_server, version, body):
    (tls.folder / "body").write_bytes(body)

    async def main():
        async with s_server(version, "-WWW", "-http_server_binmode") as server:
            reader, writer = await asyncio.open_connection(
                *server.address, ssl=tls.client_context(), server_hostname="localhost"
            )
            writer.write(b"GET /body HTTP/1.0\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.0 200 ok\r\n"
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.read() == body
            writer.close()
            await writer.wait_closed()

    run(main)


def test_a_version_that_the_server_does_not_speak_is_an_error(run, tls, s_server):
    async def main():
        context = tls.client_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        async with s_server("-tls1_2") as server:
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                await connect(tls, server, context=context)

    run(main)


def test_a_server_that_is_killed_in_mid_stream_ends_the_connection(run, tls, s_server):
    """While the client writes more than goes through, so the end may be a reset."""

    async def main():
        async with s_server() as server:
            client = await connect(tls, server)
            client.transport.write(bytes(8 << 20))
            await server.says("\0" * 1000)
            server.process.kill()
            error = await client.lost
            assert error is None or isinstance(error, ConnectionError)

    run(main)
