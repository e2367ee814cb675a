"""What an `ssl.SSLContext` says holds: versions, ciphers, ALPN, server names, keys, key logs, PSK."""

from __future__ import annotations

import gc
import ssl
import sys

import pytest

from tests.support.protocols import Echo, Recorder, close_all
from tests.tls.peers import connect, connected_pair, refused, serve

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def ssl_object(protocol):
    return protocol.transport.get_extra_info("ssl_object")


def limited(context, minimum=V1_2, maximum=V1_3):
    context.minimum_version = minimum
    context.maximum_version = maximum
    return context


@pytest.mark.parametrize(
    ("client", "server", "agreed"),
    [
        ((V1_2, V1_3), (V1_2, V1_3), "TLSv1.3"),
        ((V1_2, V1_2), (V1_2, V1_3), "TLSv1.2"),
        ((V1_2, V1_3), (V1_2, V1_2), "TLSv1.2"),
        ((V1_3, V1_3), (V1_2, V1_3), "TLSv1.3"),
    ],
)
def test_the_highest_version_that_both_allow_is_spoken(run, tls, client, server, agreed):
    async def main():
        made = await connected_pair(
            tls,
            client_context=limited(tls.client_context(), *client),
            server_context=limited(tls.server_context(), *server),
        )
        assert ssl_object(made[0]).version() == ssl_object(made[1]).version() == agreed
        await close_all(*made)

    run(main)


@pytest.mark.parametrize("older", ["client", "server"])
def test_no_version_in_common_is_an_error(run, tls, reports, older):
    versions = {"client": V1_3, "server": V1_3} | {older: V1_2}

    async def main():
        context = limited(tls.server_context(), versions["server"], versions["server"])
        server, made = await serve(tls, context=context)
        context = limited(tls.client_context(), versions["client"], versions["client"])
        await refused(tls, server, context, alert="PROTOCOL_VERSION")
        assert (await made.get()).transport is None
        assert reports == []
        await close_all(server)

    run(main)


def test_ciphers_are_chosen_from_what_both_allow(run, tls):
    name = "ECDHE-ECDSA-AES128-GCM-SHA256"

    async def main():
        client_context, server_context = limited(tls.client_context(), maximum=V1_2), tls.server_context()
        client_context.set_ciphers(f"{name}:ECDHE-ECDSA-CHACHA20-POLY1305")
        server_context.set_ciphers(f"{name}:ECDHE-ECDSA-AES256-GCM-SHA384")
        client, peer, server = await connected_pair(tls, client_context=client_context, server_context=server_context)
        assert ssl_object(client).cipher() == ssl_object(peer).cipher() == (name, "TLSv1.2", 128)
        await close_all(client, peer, server)

    run(main)


def test_no_cipher_in_common_is_an_error(run, tls, reports):
    async def main():
        client_context, server_context = limited(tls.client_context(), maximum=V1_2), tls.server_context()
        client_context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
        server_context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        server, _ = await serve(tls, context=server_context)
        await refused(tls, server, client_context, alert="HANDSHAKE_FAILURE")
        assert reports == []
        await close_all(server)

    run(main)


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "set_ciphersuites"), reason="new in Python 3.15")
def test_suites_of_tls_1_3_can_be_chosen(run, tls):
    async def main():
        context = tls.client_context()
        context.set_ciphersuites("TLS_CHACHA20_POLY1305_SHA256")
        client, peer, server = await connected_pair(tls, client_context=context)
        assert ssl_object(peer).cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize(
    ("offered", "spoken", "agreed"),
    [
        (["h2", "http/1.1"], ["h2"], "h2"),
        (["http/1.1"], ["h2", "http/1.1"], "http/1.1"),
        (["h2"], ["http/1.1"], None),
        (["h2"], None, None),
        (None, ["h2"], None),
    ],
)
def test_an_application_protocol_is_agreed_on(run, tls, offered, spoken, agreed):
    async def main():
        client_context, server_context = tls.client_context(), tls.server_context()
        if offered is not None:
            client_context.set_alpn_protocols(offered)
        if spoken is not None:
            server_context.set_alpn_protocols(spoken)
        client, peer, server = await connected_pair(tls, client_context=client_context, server_context=server_context)
        assert ssl_object(client).selected_alpn_protocol() == agreed
        assert ssl_object(peer).selected_alpn_protocol() == agreed
        await close_all(client, peer, server)

    run(main)


def test_the_server_name_chooses_the_context(run, tls):
    contexts = {f"{name}.test": tls.server_context(name) for name in ("first", "second")}
    seen = []

    def choose(tls_object, name, context):
        seen.append((type(tls_object), name, context))
        if name in contexts:
            tls_object.context = contexts[name]

    async def main():
        context = tls.server_context()
        context.sni_callback = choose
        for name in ("first.test", "second.test", "localhost"):
            client, peer, server = await connected_pair(tls, server_context=context, server_hostname=name)
            assert (("DNS", name)) in client.transport.get_extra_info("peercert")["subjectAltName"]
            assert ssl_object(peer).context is contexts.get(name, context)
            assert peer.transport.get_extra_info("sslcontext") is context
            assert seen.pop() == (ssl.SSLObject, name, context)
            peer.transport.write(b"hello")
            assert await client.received(5) == b"hello"
            await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("hostname", ["", "127.0.0.1"])
def test_no_server_name_is_told_as_none(run, tls, hostname):
    names = []

    async def main():
        server_context, client_context = tls.server_context(), tls.client_context()
        server_context.sni_callback = lambda _object, name, _context: names.append(name)
        client_context.check_hostname = bool(hostname)
        client, peer, server = await connected_pair(
            tls, client_context=client_context, server_context=server_context, server_hostname=hostname
        )
        assert names == [None]
        server_context.sni_callback = None
        await close_all(client, peer, server)

    run(main)


def test_a_server_name_can_be_refused_with_an_alert(run, tls, reports):
    async def main():
        context = tls.server_context()
        context.sni_callback = lambda *_arguments: ssl.ALERT_DESCRIPTION_ACCESS_DENIED
        server, made = await serve(tls, context=context)
        await refused(tls, server, tls.client_context(), alert="ACCESS_DENIED")
        assert (await made.get()).transport is None
        context.sni_callback = None
        client = await connect(tls, server)
        await close_all(client, server)
        assert reports == []

    run(main)


@pytest.mark.parametrize("answer", ["raises", "text"])
def test_a_failing_server_name_callback_refuses_the_client(run, tls, reports, monkeypatch, answer):
    class Boom(Exception):
        """What the callback raises."""

    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hooked: unraisable.append(hooked.exc_type))

    def choose(_object, _name, _context):
        if answer == "raises":
            raise Boom
        return "an alert's name instead of its number"

    async def main():
        context = tls.server_context()
        context.sni_callback = choose
        server, made = await serve(tls, context=context)
        alert = "HANDSHAKE_FAILURE" if answer == "raises" else "INTERNAL_ERROR"
        await refused(tls, server, tls.client_context(), alert)
        assert unraisable == [Boom if answer == "raises" else TypeError]
        assert (await made.get()).transport is None
        context.sni_callback = None
        client = await connect(tls, server)
        await close_all(client, server)
        assert reports == []

    run(main)


@pytest.mark.parametrize("how", ["text", "bytes", "function"])
def test_keys_may_be_encrypted(run, tls, how):
    password = {"text": "open sesame", "bytes": b"open sesame", "function": lambda: "open sesame"}[how]

    async def main():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.path("locked"), password=password)
        client, peer, server = await connected_pair(tls, server_context=context)
        peer.transport.write(b"open")
        assert await client.received(4) == b"open"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize(
    ("version", "label"), [(V1_2, "CLIENT_RANDOM"), (V1_3, "CLIENT_TRAFFIC_SECRET_0")], ids=["1.2", "1.3"]
)
@pytest.mark.parametrize("side", ["client", "server"])
def test_keys_are_logged_if_asked_for(run, tls, tmp_path, version, label, side):
    async def main():
        contexts = {"client": tls.client_context(), "server": tls.server_context()}
        limited(contexts[side], version, version)
        contexts[side].keylog_filename = str(tmp_path / "keys")
        client, peer, server = await connected_pair(
            tls, client_context=contexts["client"], server_context=contexts["server"]
        )
        lines = (tmp_path / "keys").read_text().splitlines()
        assert label in [line.split(" ")[0] for line in lines]
        await close_all(client, peer, server)

    run(main)


def test_a_context_may_change_while_its_server_runs(run, tls):
    async def main():
        context = tls.server_context("first")
        server, _ = await serve(tls, Echo, context)
        before = await connect(tls, server, server_hostname="first.test")
        context.load_cert_chain(tls.path("second"))
        context.set_alpn_protocols(["h2"])
        client_context = tls.client_context()
        client_context.set_alpn_protocols(["h2"])
        after = await connect(tls, server, context=client_context, server_hostname="second.test")
        assert ssl_object(after).selected_alpn_protocol() == "h2"
        for client in (before, after):
            client.transport.write(b"hello")
            assert await client.received(5) == b"hello"
        await close_all(before, after, server)

    run(main)


def test_a_connection_outlives_its_contexts(run, tls):
    async def main():
        client, peer, server = await connected_pair(
            tls, Recorder, Echo, client_context=tls.client_context(), server_context=tls.server_context()
        )
        server.close()
        del server
        gc.collect()
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, peer)

    run(main)


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_class_of_the_ssl_object_can_be_chosen(run, tls, side):
    class Special(ssl.SSLObject):
        def describe(self):
            return f"special {self.version()}"

    async def main():
        contexts = {"client": tls.client_context(), "server": tls.server_context()}
        contexts[side].sslobject_class = Special
        client, peer, server = await connected_pair(
            tls, Recorder, Echo, client_context=contexts["client"], server_context=contexts["server"]
        )
        special = ssl_object(client if side == "client" else peer)
        assert type(special) is Special
        assert special.describe() == "special TLSv1.3"
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, peer, server)

    run(main)


def test_methods_of_a_special_ssl_object_are_used(run, tls):
    calls = []

    class Spy(ssl.SSLObject):
        def do_handshake(self):
            calls.append("handshake")
            super().do_handshake()

        def read(self, *arguments):
            data = super().read(*arguments)
            calls.append("read")
            return data

        def write(self, data):
            calls.append("write")
            return super().write(data)

    async def main():
        context = tls.client_context()
        context.sslobject_class = Spy
        client, peer, server = await connected_pair(tls, Recorder, Echo, client_context=context)
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        assert set(calls) == {"handshake", "read", "write"}
        await close_all(client, peer, server)

    run(main)


def test_a_special_context_makes_the_ssl_objects_itself(run, tls):
    class Special(ssl.SSLContext):
        made = 0

        def wrap_bio(self, *arguments, **options):
            Special.made += 1
            return super().wrap_bio(*arguments, **options)

    async def main():
        context = Special(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(tls.path("authority"))
        client, peer, server = await connected_pair(tls, Recorder, Echo, client_context=context)
        assert Special.made == 1
        assert client.transport.get_extra_info("sslcontext") is ssl_object(client).context is context
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, peer, server)

    run(main)


@pytest.mark.skipif(not getattr(ssl, "HAS_PSK", False), reason="needs Python 3.13 and an OpenSSL with PSK")
@pytest.mark.parametrize("known", [True, False], ids=["known key", "unknown key"])
def test_keys_can_be_shared_in_advance(run, tls, known):
    key = b"secret of two"
    seen = []

    def show_identity(hint):
        seen.append(hint)
        return "alice", key

    def find_key(identity):
        seen.append(identity)
        return key if known else b"another secret"

    async def main():
        client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_context.check_hostname = False
        client_context.verify_mode = ssl.CERT_NONE
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in (client_context, server_context):
            limited(context, maximum=V1_2).set_ciphers("PSK")
        client_context.set_psk_client_callback(show_identity)
        server_context.set_psk_server_callback(find_key, "the server")
        server, _ = await serve(tls, Echo, server_context)
        if known:
            client = await connect(tls, server, context=client_context)
            client.transport.write(b"hello")
            assert await client.received(5) == b"hello"
            await close_all(client)
        else:
            await refused(tls, server, client_context, alert="")
        assert seen == ["the server", "alice"]
        await close_all(server)

    run(main)
