"""psycopg, SQLAlchemy, aiopg and psycopg2 in threads against a real PostgreSQL; asyncpg over TLS is in tests/peers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib

import pytest

from tests.peers.programs import package


@pytest.fixture
def dsn(postgresql):
    return f"host=127.0.0.1 port={postgresql} dbname=postgres user=tester password=secret"


class TestPsycopg:
    """psycopg 3, whose waiting is `add_reader` and `add_writer`."""

    def test_queries_and_copies(self, run, dsn):
        psycopg = package("psycopg")

        async def main():
            async with await psycopg.AsyncConnection.connect(dsn) as connection, connection.cursor() as cursor:
                await cursor.execute("CREATE TEMPORARY TABLE squares (n int, square int)")
                async with cursor.copy("COPY squares FROM STDIN") as copy:
                    for number in range(5000):
                        await copy.write_row((number, number * number))
                await cursor.execute("SELECT n, square FROM squares ORDER BY n")
                assert [row async for row in cursor] == [(number, number * number) for number in range(5000)]
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await cursor.execute("SELECT 1 / 0")

        run(main)

    def test_a_query_that_runs_is_cancelled(self, run, dsn):
        psycopg = package("psycopg")

        async def main():
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                waiting = asyncio.ensure_future(connection.execute("SELECT pg_sleep(600)"))
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watcher:
                    pid = connection.info.backend_pid
                    question = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = %s"
                    while not (await (await watcher.execute(question, (pid,))).fetchone())[0]:
                        await asyncio.sleep(0.001)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await (await connection.execute("SELECT 1")).fetchone() == (1,)

        run(main)

    def test_notifications_arrive(self, run, dsn):
        psycopg = package("psycopg")

        async def main():
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener:
                await listener.execute("LISTEN news")
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as speaker:
                    for number in range(100):
                        await speaker.execute(f"NOTIFY news, '{number}'")
                heard = [notification.payload async for notification in listener.notifies(stop_after=100)]
                assert heard == [str(number) for number in range(100)]

        run(main)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
class TestSQLAlchemy:
    @pytest.fixture
    def engine(self, postgresql, driver):
        package(driver)
        sqlalchemy = package("sqlalchemy.ext.asyncio")

        @contextlib.asynccontextmanager
        async def connected(**options):
            address = f"postgresql+{driver}://tester:secret@127.0.0.1:{postgresql}/postgres"
            engine = sqlalchemy.create_async_engine(address, **options)
            try:
                yield engine
            finally:
                await engine.dispose()

        return connected

    def test_objects_are_stored_and_found(self, run, engine):
        sqlalchemy = package("sqlalchemy")
        orm = package("sqlalchemy.orm")
        select = sqlalchemy.select
        session_of = package("sqlalchemy.ext.asyncio").async_sessionmaker

        class Base(orm.DeclarativeBase):
            pass

        class Word(Base):
            __tablename__ = "words"
            id = orm.mapped_column(sqlalchemy.Integer, primary_key=True)
            text = orm.mapped_column(sqlalchemy.Text)

        async def main():
            async with engine() as connected:
                async with connected.begin() as connection:
                    await connection.run_sync(Base.metadata.drop_all)
                    await connection.run_sync(Base.metadata.create_all)
                make_session = session_of(connected, expire_on_commit=False)
                async with make_session() as session, session.begin():
                    session.add_all([Word(text=f"word {number}") for number in range(500)])
                async with make_session() as session:
                    found = (await session.scalars(select(Word).order_by(Word.id))).all()
                    assert [word.text for word in found] == [f"word {number}" for number in range(500)]
                    streamed = await session.stream_scalars(select(Word.text).where(Word.id <= 10).order_by(Word.id))
                    assert [text async for text in streamed] == [f"word {number}" for number in range(10)]

        run(main)

    def test_a_pool_is_shared_by_more_tasks_than_it_has_connections(self, run, engine):
        text = package("sqlalchemy").text

        async def main():
            async with engine(pool_size=4, max_overflow=2) as connected:

                async def ask(number):
                    async with connected.connect() as connection:
                        return await connection.scalar(text("SELECT :n * 2"), {"n": number})

                answers = await asyncio.gather(*(ask(number) for number in range(100)))
                assert answers == [number * 2 for number in range(100)]

        run(main)


def test_aiopg(run, dsn):
    """psycopg2's non-blocking mode, driven by `add_reader` and `add_writer`."""
    aiopg = package("aiopg")

    async def main():
        async with aiopg.create_pool(dsn, maxsize=3) as pool:

            async def ask(number):
                async with pool.acquire() as connection, connection.cursor() as cursor:
                    await cursor.execute("SELECT %s * 2", (number,))
                    return (await cursor.fetchone())[0]

            answers = await asyncio.gather(*(ask(number) for number in range(50)))
            assert answers == [number * 2 for number in range(50)]

    run(main)


def test_psycopg2_in_threads(run, loop, dsn):
    psycopg2 = package("psycopg2")

    def ask(number):
        with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT %s * 2", (number,))
            return cursor.fetchone()[0]

    async def main():
        with concurrent.futures.ThreadPoolExecutor(4) as executor:
            answers = await asyncio.gather(*(loop.run_in_executor(executor, ask, number) for number in range(40)))
        assert answers == [number * 2 for number in range(40)]
        assert await asyncio.to_thread(ask, 4) == 8

    run(main)
