"""docs/compatibility.md says what is: its tables are compared with the running Python."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys

import pytest

from docs import make_compatibility
from tests.cpython import left_out
from tests.support import certificate, surface

DOCUMENT = make_compatibility.DOCUMENT.read_text()
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def rows(heading):
    """The rows of the table of a section, without its head."""
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in table[1:]]


def quoted(cell):
    return re.findall(r"`(\w+)`", cell)


def test_the_tables_say_whose_code_everything_is():
    assert make_compatibility.read(DOCUMENT)[VERSION] == surface.owners(), "run docs/make_compatibility.py"


def test_writing_the_tables_again_changes_nothing():
    assert make_compatibility.write(DOCUMENT, make_compatibility.read(DOCUMENT)) == DOCUMENT


def test_only_the_abstract_part_of_asyncio_is_missing():
    """What ironloop lacks does nothing in asyncio either, but for the size of reads."""
    for title, (ours, theirs) in surface.pairs().items():
        for name in surface.members(theirs):
            if surface.owner(ours, name) == surface.NOBODY and name != "max_size":
                owner = next(base for base in theirs.__mro__ if name in vars(base))
                assert owner.__module__ == "asyncio.transports", f"{title}: {name} is missing"


def test_the_number_of_tests_left_out_is_that_of_the_lists():
    told = {row[0].split(",")[0]: row[3] for row in rows("CPython's own tests")}
    for version, number in told.items():
        micro = tuple(int(part) for part in version.split("."))
        assert len(left_out.read(micro)) == int(number), version


def test_every_version_with_a_column_has_run_cpythons_tests():
    told = {row[0].split(",")[0].rpartition(".")[0] for row in rows("CPython's own tests")}
    assert told == make_compatibility.read(DOCUMENT).keys()


KEYS = {kind: quoted(keys) for kind, keys in rows("What `get_extra_info` knows")}


@contextlib.asynccontextmanager
async def stream(server_tls=None, client_tls=None):
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_tls) as s:
        _, writer = await asyncio.open_connection("localhost", s.sockets[0].getsockname()[1], ssl=client_tls)
        try:
            yield writer.transport
        finally:
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def transport_of(kind, loop):
    """A transport, connected."""
    if kind == "TCP or Unix stream":
        async with stream() as transport:
            yield transport
        return
    if kind == "TLS":
        async with stream(certificate.server_context(), certificate.client_context()) as transport:
            yield transport
        return
    if kind == "datagram":
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", 9))
    elif kind == "pipe":
        reading, writing = os.pipe()
        os.close(writing)
        transport, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reading, "rb", 0))
    else:
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", stdin=None)
        assert isinstance(transport.get_extra_info("subprocess"), subprocess.Popen)
        await transport._wait()
    yield transport
    transport.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("kind", KEYS)
def test_the_keys_of_a_transport_are_known(loop, run, kind):
    async def main():
        missing = object()
        async with transport_of(kind, loop) as transport:
            unknown = [key for key in KEYS[kind] if transport.get_extra_info(key, missing) is missing]
            assert unknown == []
            assert transport.get_extra_info("no such key", missing) is missing

    run(main)


def test_the_attributes_without_documentation_are_there(loop, run):
    attributes = {owner: quoted(names) for owner, names in rows("Attributes without documentation")}

    async def main():
        tls = certificate.server_context(), certificate.client_context()
        async with await asyncio.start_server(print, "127.0.0.1", 0) as server, stream() as plain, stream(*tls) as over:
            objects = {
                "loop": loop,
                "handle": loop.call_soon(id, 1),
                "timer handle": loop.call_later(0, id, 1),
                "server": server,
                "stream transport": plain,
                "TLS transport": over,
            }
            assert objects.keys() == attributes.keys()
            for owner, names in attributes.items():
                assert [name for name in names if not hasattr(objects[owner], name)] == [], owner

    run(main)
