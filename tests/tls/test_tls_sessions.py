"""Sessions and tickets: a client that was here before has a shorter handshake."""

from __future__ import annotations

import ssl

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import connect, serve

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH_VERSIONS = pytest.mark.parametrize("version", [V1_2, V1_3], ids=["1.2", "1.3"])


class Resuming(ssl.SSLContext):
    """Gives its connections a session, for which the loops have no argument."""

    session = None

    def wrap_bio(self, *arguments, **options):
        return super().wrap_bio(*arguments, session=self.session, **options)


def resuming_context(tls, version):
    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tls.path("authority"))
    context.minimum_version = context.maximum_version = version
    return context


async def visit(tls, server, context):
    """(whether the session was reused, the session afterwards)"""
    client = await connect(tls, server, Recorder, context)
    client.transport.write(b"hello")  # and with the answer come the tickets of TLS 1.3
    assert await client.received(5) == b"hello"
    secured = client.transport.get_extra_info("ssl_object")
    reused, session = secured.session_reused, secured.session
    await close_all(client)
    return reused, session


@BOTH_VERSIONS
def test_a_session_can_be_resumed(run, tls, version):
    async def main():
        server_context = tls.server_context()
        server, _ = await serve(tls, Echo, server_context)
        context = resuming_context(tls, version)
        reused, context.session = await visit(tls, server, context)
        assert reused is False
        assert isinstance(context.session, ssl.SSLSession)
        assert context.session.has_ticket
        for _ in range(2):
            reused, context.session = await visit(tls, server, context)
            assert reused is True
        assert server_context.session_stats()["hits"] == 2
        await close_all(server)

    run(main)


@BOTH_VERSIONS
def test_the_server_sees_that_a_session_was_resumed(run, tls, version):
    async def main():
        server, made = await serve(tls, Echo)
        context = resuming_context(tls, version)
        for expected in (False, True):
            client = await connect(tls, server, Recorder, context)
            client.transport.write(b"hello")
            await client.received(5)
            peer = await made.get()
            assert peer.transport.get_extra_info("ssl_object").session_reused is expected
            context.session = client.transport.get_extra_info("ssl_object").session
            await close_all(client, peer)
        await close_all(server)

    run(main)


@BOTH_VERSIONS
def test_a_session_of_another_server_is_not_resumed(run, tls, version):
    async def main():
        context = resuming_context(tls, version)
        server, _ = await serve(tls, Echo)
        _, context.session = await visit(tls, server, context)
        await close_all(server)
        server, _ = await serve(tls, Echo, tls.server_context())
        reused, _ = await visit(tls, server, context)
        assert reused is False
        await close_all(server)

    run(main)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # which CPython's create_connection forgets
def test_a_session_of_another_context_is_refused(run, tls):
    async def main():
        first, second = resuming_context(tls, V1_2), resuming_context(tls, V1_2)
        server, _ = await serve(tls, Echo)
        _, second.session = await visit(tls, server, first)
        with pytest.raises(ValueError, match="Session refers to a different SSLContext"):
            await visit(tls, server, second)
        await close_all(server)

    run(main)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_server_sends_as_many_tickets_as_its_context_says(run, tls, count):
    async def main():
        server_context = tls.server_context()
        server_context.num_tickets = count
        server, _ = await serve(tls, Echo, server_context)
        context = resuming_context(tls, V1_3)
        _, session = await visit(tls, server, context)
        assert session.has_ticket is (count > 0)
        assert context.session_stats()["connect_good"] == 1
        await close_all(server)

    run(main)


def test_tickets_can_be_forbidden(run, tls):
    async def main():
        server_context = tls.server_context()
        server_context.options |= ssl.OP_NO_TICKET
        server, _ = await serve(tls, Echo, server_context)
        _, session = await visit(tls, server, resuming_context(tls, V1_2))
        assert not session.has_ticket
        await close_all(server)

    run(main)
