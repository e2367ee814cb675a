"""getaddrinfo and getnameinfo: the answers of the socket module."""

from __future__ import annotations

import socket

import pytest

HOSTS = ["127.0.0.1", "::1", "localhost", "", None, b"127.0.0.1", "127.1", "0.0.0.0", "fe80::1%lo", "::ffff:1.2.3.4"]


def outcome(function):
    try:
        return sorted(map(repr, function()))
    except (OSError, UnicodeError, TypeError, ValueError) as error:
        return type(error), getattr(error, "errno", None)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("port", [80, "http", None, b"80", "0"])
def test_the_answer_is_that_of_the_socket_module(loop, host, port):
    def asked(**options):
        return lambda: loop.run_until_complete(loop.getaddrinfo(host, port, **options))

    assert outcome(asked()) == outcome(lambda: socket.getaddrinfo(host, port))
    options = {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}
    assert outcome(asked(**options)) == outcome(lambda: socket.getaddrinfo(host, port, **options))


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "bad\0name", 5, "\ud800"])
def test_what_cannot_be_resolved_fails_as_in_the_socket_module(loop, host):
    def asked():
        return loop.run_until_complete(loop.getaddrinfo(host, 80))

    assert outcome(asked) == outcome(lambda: socket.getaddrinfo(host, 80))


def test_names_of_addresses(loop):
    for address in (("127.0.0.1", 80), ("::1", 80, 0, 0)):
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        answer = loop.run_until_complete(loop.getnameinfo(address, flags))
        assert answer == socket.getnameinfo(address, flags)


def test_literals_need_no_thread():
    import threading

    import ironloop

    before = threading.active_count()
    loop = ironloop.new_event_loop()

    async def main():
        for number in range(300):
            assert (await loop.getaddrinfo(f"10.0.{number // 256}.{number % 256}", 80))[0][4][1] == 80

    loop.run_until_complete(main())
    assert threading.active_count() <= before
    loop.close()


def test_a_resolver_that_replaces_asyncios_is_asked(loop, monkeypatch):
    """As test suites do: asyncio's name for the socket module, not the module itself."""

    class Offline:
        @staticmethod
        def getaddrinfo(host, port, *_args):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

        def __getattr__(self, name):
            return getattr(socket, name)

    monkeypatch.setattr("asyncio.base_events.socket", Offline())
    ((*_, address),) = loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    assert address == ("192.0.2.1", 80)
