"""Who shows and who checks which certificate: servers', clients', and those asked for after the handshake."""

from __future__ import annotations

import gc
import ssl

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import connect, connected_pair, refused, serve, tells_of

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH_VERSIONS = pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])


def common_name(certificate):
    return dict(part[0] for part in certificate["subject"])["commonName"]


@pytest.mark.parametrize(
    ("certificate", "hostname", "code", "message"),
    [
        ("second", "localhost", 62, "Hostname mismatch, certificate is not valid for 'localhost'."),
        ("first", "127.0.0.1", 64, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ("expired", "localhost", 10, "certificate has expired"),
        ("stranger", "localhost", 18, "self"),
        ("locked", "first.test", 62, "Hostname mismatch, certificate is not valid for 'first.test'."),
    ],
    ids=["other name", "other address", "expired", "signed by itself", "other name asked for"],
)
@BOTH_VERSIONS
def test_a_bad_certificate_is_refused(run, tls, reports, certificate, hostname, code, message, version):
    async def main():
        server, made = await serve(tls, Echo, tls.server_context(certificate))
        context = tls.client_context()
        context.maximum_version = version
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed") as raised:
            await connect(tls, server, context=context, server_hostname=hostname)
        error = raised.value
        assert error.verify_code == code
        assert message in error.verify_message
        assert error.reason == "CERTIFICATE_VERIFY_FAILED"
        assert error.library == "SSL"
        assert error.errno == ssl.SSL_ERROR_SSL
        assert (await made.get()).transport is None
        assert reports == []
        await close_all(server)

    run(main)


def test_an_authority_that_is_not_trusted_is_refused(run, tls):
    async def main():
        server, _ = await serve(tls, Echo)
        context = ssl.create_default_context(cafile=tls.path("stranger"))
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            await connect(tls, server, context=context)
        assert raised.value.verify_code == 20
        assert raised.value.verify_message == "unable to get local issuer certificate"
        await close_all(server)

    run(main)


@pytest.mark.parametrize("certificate", ["expired", "stranger", "second"])
def test_a_client_that_checks_nothing_takes_every_certificate(run, tls, certificate):
    async def main():
        context = tls.client_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client, peer, server = await connected_pair(
            tls, Recorder, Echo, client_context=context, server_context=tls.server_context(certificate)
        )
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        assert client.transport.get_extra_info("peercert") == {}
        assert client.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await close_all(client, peer, server)

    run(main)


def ssl_checks_that_there_is_a_name(context):
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    except ValueError:
        return True
    return False


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # which CPython's create_connection forgets
def test_a_context_that_checks_names_gets_none_only_if_ssl_allows_it(run, tls):
    """Newer versions of 3.14 do not; with older ones an empty name means that no name is checked."""

    async def main():
        context = tls.client_context()
        assert context.check_hostname
        if ssl_checks_that_there_is_a_name(context):
            server, _ = await serve(tls)
            with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
                await connect(tls, server, context=context, server_hostname="")
            gc.collect()
        else:
            client, peer, server = await connected_pair(
                tls, client_context=context, server_context=tls.server_context("first"), server_hostname=""
            )
            assert common_name(client.transport.get_extra_info("peercert")) == "first"
            await close_all(client, peer)
        await close_all(server)

    run(main)


def test_a_server_that_was_refused_serves_the_next_client(run, tls, reports):
    async def main():
        server, _ = await serve(tls, Echo)
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(tls, server, server_hostname="first.test")
            client = await connect(tls, server)
            client.transport.write(b"hello")
            assert await client.received(5) == b"hello"
            await close_all(client)
        await close_all(server)
        assert reports == []

    run(main)


@BOTH_VERSIONS
@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED], ids=["optional", "required"])
def test_a_clients_certificate_is_shown_to_the_server(run, tls, mode, version):
    async def main():
        context = tls.client_context("client")
        context.maximum_version = version
        client, peer, server = await connected_pair(
            tls, Recorder, Echo, client_context=context, server_context=tls.strict_server_context(mode)
        )
        assert common_name(peer.transport.get_extra_info("peercert")) == "client"
        assert common_name(client.transport.get_extra_info("peercert")) == "localhost"
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, peer, server)

    run(main)


def test_a_client_may_have_no_certificate_if_that_is_optional(run, tls):
    async def main():
        client, peer, server = await connected_pair(tls, server_context=tls.strict_server_context(ssl.CERT_OPTIONAL))
        assert peer.transport.get_extra_info("peercert") is None
        assert peer.transport.get_extra_info("ssl_object").getpeercert() is None
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize(
    ("certificate", "alert"), [(None, "HANDSHAKE_FAILURE"), ("stranger", "UNKNOWN_CA")], ids=["none", "unknown"]
)
def test_tls_1_2_tells_the_client_in_the_handshake_that_its_certificate_is_refused(
    run, tls, reports, certificate, alert
):
    async def main():
        server, made = await serve(tls, context=tls.strict_server_context())
        context = tls.client_context(certificate)
        context.maximum_version = V1_2
        await refused(tls, server, context, alert)
        assert (await made.get()).transport is None
        assert reports == []
        await close_all(server)

    run(main)


@pytest.mark.parametrize(
    ("certificate", "alert"), [(None, "CERTIFICATE_REQUIRED"), ("stranger", "UNKNOWN_CA")], ids=["none", "unknown"]
)
def test_tls_1_3_tells_the_client_after_the_handshake_that_its_certificate_is_refused(
    run, tls, reports, certificate, alert, modern
):
    """Its side of the handshake ends before the server has seen its certificate (RFC 8446, 4.4.2)."""

    async def main():
        server, made = await serve(tls, context=tls.strict_server_context())
        client = await connect(tls, server, context=tls.client_context(certificate))
        error = await client.lost
        assert tells_of(error, alert) or error is None, repr(error)
        assert client.events[0] == "made"
        assert (await made.get()).transport is None
        assert reports == []
        await close_all(server)

    run(main)


def test_a_clients_certificate_can_be_asked_for_later(run, tls):
    async def main():
        server_context, client_context = tls.strict_server_context(), tls.client_context("client")
        server_context.post_handshake_auth = client_context.post_handshake_auth = True
        client, peer, server = await connected_pair(tls, client_context=client_context, server_context=server_context)
        secured = peer.transport.get_extra_info("ssl_object")
        assert secured.getpeercert() is None
        secured.verify_client_post_handshake()
        peer.transport.write(b"who are you?")
        assert await client.received(12) == b"who are you?"
        client.transport.write(b"me")
        assert await peer.received(2) == b"me"
        assert common_name(secured.getpeercert()) == "client"
        await close_all(client, peer, server)

    run(main)


def test_a_client_that_does_not_answer_the_later_question_is_cut_off(run, tls, modern):
    async def main():
        server_context, client_context = tls.strict_server_context(), tls.client_context()
        server_context.post_handshake_auth = client_context.post_handshake_auth = True
        client, peer, server = await connected_pair(tls, client_context=client_context, server_context=server_context)
        peer.transport.get_extra_info("ssl_object").verify_client_post_handshake()
        peer.transport.write(b"who are you?")
        await client.received(12)
        error = await peer.lost
        assert isinstance(error, ssl.SSLError)
        assert error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        await client.lost
        await close_all(server)

    run(main)
