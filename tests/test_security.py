"""What a loop must not change behind its user's back: who may connect, what children inherit, how TLS is set up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import stat

import pytest

from tests.support.certificate import client_context, server_context
from tests.support.leaks import open_descriptors
from tests.support.protocols import Echo, Recorder, close_all

SETTINGS = [
    *["check_hostname", "hostname_checks_common_name", "keylog_filename", "maximum_version", "minimum_version"],
    *["num_tickets", "options", "post_handshake_auth", "protocol", "security_level", "sni_callback", "verify_flags"],
    *["verify_mode", "_msg_callback"],
]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_a_unix_socket_has_the_permissions_that_the_umask_leaves(run, loop, tmp_path, mask):
    async def main():
        path = tmp_path / "socket"
        before = os.umask(mask)
        try:
            server = await loop.create_unix_server(Echo, path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
        await close_all(server)

    run(main)


def test_no_descriptor_is_inherited_by_children(run, loop_factory, tmp_path):
    before = set(open_descriptors())
    loop = loop_factory()

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, int)
        await loop.run_in_executor(None, int)
        idle = len(open_descriptors())
        servers = [
            await loop.create_server(Echo, "127.0.0.1", 0),
            await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context()),
            await loop.create_unix_server(Echo, tmp_path / "socket"),
        ]
        tcp, secure = (server.sockets[0].getsockname() for server in servers[:2])
        clients = [
            await loop.create_connection(Recorder, *tcp),
            await loop.create_connection(Recorder, *secure, ssl=client_context()),
            await loop.create_unix_connection(Recorder, tmp_path / "socket"),
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
        ]
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        opened = set(open_descriptors()) - before
        # The loop's own, both ends of each connection, listeners, the datagram socket, the child's pipes and its pidfd.
        assert len(opened) > 12
        assert [fd for fd in opened if os.get_inheritable(fd)] == []
        assert await process.communicate(b"x") == (b"x", None)
        for transport, _ in clients:
            transport.close()
        loop.remove_signal_handler(signal.SIGUSR1)
        await close_all(*servers)
        while len(open_descriptors()) > idle:
            await asyncio.sleep(0.001)

    try:
        loop.run_until_complete(asyncio.wait_for(main(), 50))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def settings(context):
    known = {name: getattr(context, name) for name in SETTINGS if hasattr(context, name)}
    return known, context.get_ciphers(), context.cert_store_stats()


@pytest.mark.parametrize("through", ["connection", "start_tls"])
def test_a_context_is_used_as_it_is(run, loop, through):
    async def main():
        ours, theirs = server_context(), client_context()
        before = settings(ours), settings(theirs)
        left, right = socket.socketpair()
        if through == "connection":
            accepting = loop.connect_accepted_socket(Echo, right, ssl=ours)
            connecting = loop.create_connection(Recorder, sock=left, ssl=theirs, server_hostname="localhost")
            (peer, _), (transport, _) = await asyncio.gather(accepting, connecting)
        else:
            plain, protocol = await loop.create_connection(Recorder, sock=left)
            accepted, echo = await loop.create_connection(Echo, sock=right)
            peer, transport = await asyncio.gather(
                loop.start_tls(accepted, echo, ours, server_side=True),
                loop.start_tls(plain, protocol, theirs, server_hostname="localhost"),
            )
        assert transport.get_extra_info("sslcontext") is theirs
        assert transport.get_extra_info("ssl_object").context is theirs
        assert (settings(ours), settings(theirs)) == before
        lost = transport.get_protocol().lost
        transport.abort()
        peer.abort()
        await lost
        await asyncio.sleep(0.01)

    run(main)


def test_certificates_and_names_are_checked_unless_the_user_says_otherwise(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
        loop.set_exception_handler(lambda *_: None)
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Recorder, *server.sockets[0].getsockname(), ssl=True)
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            address = server.sockets[0].getsockname()
            await loop.create_connection(Recorder, *address, ssl=client_context(), server_hostname="elsewhere")
        await close_all(server)

    run(main)
