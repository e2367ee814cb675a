"""Many requests at once against a slow service, no more than ten at a time, with a deadline and one that fails.

    python examples/gather.py
    python -m ironloop examples/gather.py
    python -m ironloop compare examples/gather.py

A hundred requests of 10 ms each take 100 ms on any loop, as ten are under way at a time. The loops differ in the
processor time that this takes: see the CPU row of `compare`.
"""

import asyncio

REQUESTS = 100
AT_ONCE = 10


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that takes a number and, 10 ms later, answers its square; it does not like 13."""
    while line := await reader.readline():
        number = int(line)
        await asyncio.sleep(0.01)
        writer.write(b"unlucky\n" if number == 13 else b"%d\n" % number**2)
        await writer.drain()
    writer.close()


async def square(port: int, number: int, limit: asyncio.Semaphore) -> int:
    async with limit:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"%d\n" % number)
            return int(await asyncio.wait_for(reader.readline(), timeout=30))
        finally:
            writer.close()
            await writer.wait_closed()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limit = asyncio.Semaphore(AT_ONCE)
    answers = await asyncio.gather(*(square(port, n, limit) for n in range(REQUESTS)), return_exceptions=True)
    squares = [answer for answer in answers if isinstance(answer, int)]
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    print(f"{len(squares)} answers, their sum is {sum(squares)}")
    for failure in failures:
        print(f"one failed: {failure}")
    server.close()


asyncio.run(main())
