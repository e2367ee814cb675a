"""What a TLS transport tells of itself: get_extra_info, the SSL object behind it, and what kind of object it is."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import weakref
from pathlib import Path

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import connected_pair

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH_VERSIONS = pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])


async def pair_of_version(tls, version, **options):
    context = tls.client_context("client")
    context.minimum_version = context.maximum_version = version
    return await connected_pair(
        tls, Recorder, Echo, client_context=context, server_context=tls.strict_server_context(), **options
    )


@BOTH_VERSIONS
def test_extra_info_tells_of_the_handshake(run, tls, version):
    async def main():
        client, peer, server = await pair_of_version(tls, version)
        for protocol, name in ((client, "localhost"), (peer, "client")):
            transport = protocol.transport
            secured = transport.get_extra_info("ssl_object")
            assert isinstance(secured, ssl.SSLObject)
            assert transport.get_extra_info("ssl_object") is secured
            context = transport.get_extra_info("sslcontext")
            assert isinstance(context, ssl.SSLContext)
            assert secured.context is context
            certificate = transport.get_extra_info("peercert")
            assert certificate == secured.getpeercert()
            assert (("commonName", name),) in certificate["subject"]
            cipher = transport.get_extra_info("cipher")
            assert cipher == secured.cipher()
            assert cipher[1] == secured.version()
            assert transport.get_extra_info("compression") is None
        await close_all(client, peer, server)

    run(main)


def test_extra_info_tells_of_the_socket(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        address = server.sockets[0].getsockname()
        assert client.transport.get_extra_info("peername") == address
        assert peer.transport.get_extra_info("sockname") == address
        assert client.transport.get_extra_info("sockname") == peer.transport.get_extra_info("peername")
        for protocol in (client, peer):
            sock = protocol.transport.get_extra_info("socket")
            assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.gettimeout() == 0
        assert client.transport.get_extra_info("colour") is None
        assert client.transport.get_extra_info("colour", "green") == "green"
        await close_all(client, peer, server)

    run(main)


def test_extra_info_of_the_handshake_outlives_the_connection(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        names = ("ssl_object", "sslcontext", "peercert", "cipher", "compression")
        before = [client.transport.get_extra_info(name) for name in names]
        client.transport.close()
        await client.lost
        await peer.lost
        assert [client.transport.get_extra_info(name) for name in names] == before
        assert client.transport.get_extra_info("ssl_object").getpeercert() == before[2]
        assert client.transport.get_extra_info("colour", "green") == "green"
        await close_all(server)

    run(main)


def test_the_addresses_outlive_the_connection(run, tls, better):
    async def main():
        client, peer, server = await connected_pair(tls)
        names = ("peername", "sockname")
        before = [client.transport.get_extra_info(name) for name in names]
        await close_all(client, peer, server)
        assert [client.transport.get_extra_info(name) for name in names] == before
        assert client.transport.get_extra_info("socket").fileno() == -1

    run(main)


@BOTH_VERSIONS
def test_the_ssl_object_has_all_that_such_objects_have(run, tls, version):
    async def main():
        client, peer, server = await pair_of_version(tls, version)
        secured, served = (protocol.transport.get_extra_info("ssl_object") for protocol in (client, peer))
        assert secured.version() == served.version() == version.name.replace("TLSv1_", "TLSv1.")
        assert (secured.server_side, served.server_side) == (False, True)
        assert (secured.server_hostname, served.server_hostname) == ("localhost", None)
        assert secured.pending() == served.pending() == 0
        assert secured.selected_alpn_protocol() is None
        assert secured.compression() is None
        der = secured.getpeercert(binary_form=True)
        assert ssl.DER_cert_to_PEM_cert(der) in Path(tls.path("localhost")).read_text()
        assert secured.cipher() in served.shared_ciphers()
        assert secured.shared_ciphers() is None
        assert secured.session_reused is served.session_reused is False
        await close_all(client, peer, server)

    run(main)


def test_both_ends_have_the_same_channel_binding(run, tls):
    async def main():
        client, peer, server = await pair_of_version(tls, V1_2)
        bindings = [
            protocol.transport.get_extra_info("ssl_object").get_channel_binding("tls-unique")
            for protocol in (client, peer)
        ]
        assert bindings[0] == bindings[1]
        assert len(bindings[0]) == 12  # a Finished message, RFC 5929
        with pytest.raises(ValueError, match="not implemented"):
            client.transport.get_extra_info("ssl_object").get_channel_binding("tls-strange")
        await close_all(client, peer, server)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_the_chain_of_certificates_is_told(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        secured = client.transport.get_extra_info("ssl_object")
        assert len(secured.get_verified_chain()) == 2
        assert secured.get_unverified_chain() == [secured.getpeercert(binary_form=True)]
        assert secured.get_verified_chain()[0] == secured.getpeercert(binary_form=True)
        await close_all(client, peer, server)

    run(main)


def test_asking_questions_disturbs_nothing(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, Echo)
        secured = client.transport.get_extra_info("ssl_object")
        data = bytes(range(256)) * 4000
        client.transport.write(data)
        while len(client.data) < len(data):
            secured.version(), secured.cipher(), secured.getpeercert(), secured.pending(), secured.session
            await asyncio.sleep(0)
        assert bytes(client.data) == data
        await close_all(client, peer, server)

    run(main)


def test_a_transport_is_one_of_asyncios_and_takes_attributes(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        transport = client.transport
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert weakref.ref(transport)() is transport
        assert transport in {transport: 1}
        transport.note = 5
        assert transport.note == 5
        written = []
        transport.write = written.append
        transport.write(b"to the list")
        assert written == [b"to the list"]
        await close_all(client, peer, server)

    run(main)


def test_a_transport_can_be_printed_in_every_state(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls)
        assert "Transport" in repr(client.transport)
        peer.transport.pause_reading()
        client.transport.write(b"x" * 1_000_000)
        assert "Transport" in repr(client.transport)
        client.transport.close()
        assert "Transport" in repr(client.transport)
        await close_all(client, peer, server)
        assert "Transport" in repr(client.transport)
        assert client.transport.is_closing()

    run(main)


def test_every_method_can_be_called_on_a_lost_transport(run, tls, modern):
    async def main():
        client, peer, server = await connected_pair(tls)
        client.transport.close()
        await client.lost
        await peer.lost
        for transport in (client.transport, peer.transport):
            transport.write(b"x")
            transport.writelines([b"x"])
            transport.pause_reading()
            transport.resume_reading()
            transport.set_write_buffer_limits(1000)
            assert transport.get_write_buffer_size() == 0
            assert transport.is_closing()
            assert not transport.can_write_eof()
            transport.abort()
            transport.close()
        await asyncio.sleep(0.001)
        assert client.events.count("lost") == peer.events.count("lost") == 1
        await close_all(server)

    run(main)
