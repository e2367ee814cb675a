"""PostgreSQL with TLS, by asyncpg, which asks the server for TLS and then calls `loop.start_tls`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl

import pytest

from tests.peers.programs import package
from tests.support.leaks import open_descriptors
from tests.support.postgresql import database_server


@pytest.fixture(scope="session")
def database(tls):
    """The port of a running server."""
    package("asyncpg")
    with database_server(tls) as server:
        yield server.port


@pytest.fixture
def connected(database, tls):
    """`connected()` is a connection for a block, by default of the role with the password."""
    asyncpg = package("asyncpg")

    @contextlib.asynccontextmanager
    async def connect(user="tester", context=None):
        where = {"host": "localhost", "port": database, "database": "postgres"}
        connection = await asyncpg.connect(
            **where, user=user, password="secret", ssl=context or tls.client_context(), timeout=40
        )
        try:
            yield connection
        finally:
            await connection.close()

    return connect


def test_queries_over_tls(run, connected):
    async def main():
        async with connected() as connection:
            row = await connection.fetchrow("SELECT version, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert tuple(row) == ("TLSv1.3", True)
            rows = await connection.fetch("SELECT n, n * n AS square FROM generate_series(1, 10000) AS n")
            assert [row["square"] for row in rows] == [n * n for n in range(1, 10001)]
            async with connection.transaction():
                numbers = [row[0] async for row in connection.cursor("SELECT * FROM generate_series(1, 1000)")]
            assert numbers == list(range(1, 1001))

    run(main)


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 1 << 20, 16 << 20])
def test_values_of_all_sizes_come_back(run, connected, size):
    data = random.Random(size).randbytes(size)

    async def main():
        async with connected() as connection:
            assert await connection.fetchval("SELECT $1::bytea", data) == data

    run(main)


def test_tables_are_copied_in_and_out(run, connected, modern):
    records = [(number, f"line {number} " + "x" * (number % 500)) for number in range(20_000)]

    async def main():
        async with connected() as connection:
            await connection.execute("CREATE TEMPORARY TABLE lines (number int, line text)")
            await connection.copy_records_to_table("lines", records=records)
            assert [tuple(row) for row in await connection.fetch("SELECT * FROM lines ORDER BY number")] == records
            copied = bytearray()

            async def keep(data):
                copied.extend(data)

            await connection.copy_from_query("SELECT * FROM lines ORDER BY number", output=keep)
            assert copied.decode() == "".join(f"{number}\t{line}\n" for number, line in records)

    run(main)


def test_notifications_arrive(run, connected):
    async def main():
        async with connected() as listener, connected() as speaker:
            heard = asyncio.Queue()
            await listener.add_listener("news", lambda _connection, _pid, _channel, payload: heard.put_nowait(payload))
            for number in range(200):
                await speaker.execute(f"NOTIFY news, '{number}'")
            assert [await heard.get() for _ in range(200)] == [str(number) for number in range(200)]

    run(main)


async def until_running(connection, pid, wanted):
    """Wait until a backend runs a query, or until it does not any more."""
    question = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1"
    while bool(await connection.fetchval(question, pid)) is not wanted:
        await asyncio.sleep(0.001)


def test_a_query_that_runs_is_cancelled(run, connected):
    """Over a connection of its own, which asks for TLS too."""

    async def main():
        async with connected() as connection, connected() as watcher:
            pid = connection.get_server_pid()
            query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(600)"))
            await until_running(watcher, pid, True)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            await until_running(watcher, pid, False)
            assert await connection.fetchval("SELECT 1 + 1") == 2

    run(main)


def test_a_connection_that_the_server_ends_is_lost(run, connected):
    asyncpg = package("asyncpg")

    async def main():
        async with connected() as connection, connected() as killer:
            ended = asyncio.get_running_loop().create_future()
            connection.add_termination_listener(ended.set_result)
            query = asyncio.ensure_future(connection.execute("SELECT pg_sleep(600)"))
            await until_running(killer, connection.get_server_pid(), True)
            await killer.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            with pytest.raises(asyncpg.PostgresError):
                await query
            await ended
            assert connection.is_closed()
            with pytest.raises(asyncpg.InterfaceError):
                await connection.execute("SELECT 1")

    run(main)


def test_a_pool_serves_many_at_once(run, database, tls):
    asyncpg = package("asyncpg")

    async def main():
        where = {"host": "localhost", "port": database, "database": "postgres", "user": "tester", "password": "secret"}
        async with asyncpg.create_pool(**where, ssl=tls.client_context(), min_size=5, max_size=10) as pool:
            answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", number) for number in range(300)))
            assert answers == [number * 2 for number in range(300)]

    run(main)


def test_a_certificate_is_enough_to_log_in(run, tls, connected):
    async def main():
        async with connected("client", tls.client_context("client")) as connection:
            assert await connection.fetchval("SELECT current_user") == "client"
        before = len(open_descriptors())
        with pytest.raises(package("asyncpg").PostgresError, match="valid client certificate"):
            async with connected("client"):
                pass
        # asyncpg closes the connection and does not wait for its end, which needs the server's answer.
        while len(open_descriptors()) > before:
            await asyncio.sleep(0.001)

    run(main)


def test_a_server_whose_authority_is_not_known_is_refused(run, connected):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(context=ssl.create_default_context()):
                pass

    run(main)
