"""Subprocesses as in a shell's pipeline, `seq 1 20000 | grep 7 | wc -l`, with the loop carrying the bytes.

    python examples/pipeline.py
    python -m ironloop examples/pipeline.py
    python -m ironloop compare examples/pipeline.py

The first pipeline goes through this program, block by block; the second is connected by pipes of the system's, and the
program only waits. Then twenty children at once, one of which fails and one of which takes too long.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> int:
    """Carries everything from one child to the next; returns how much it was."""
    carried = 0
    while block := await source.read(65536):
        target.write(block)
        await target.drain()
        carried += len(block)
    target.close()
    await target.wait_closed()
    return carried


async def through_this_program() -> None:
    numbers = await asyncio.create_subprocess_exec("seq", "1", "20000", stdout=PIPE)
    sevens = await asyncio.create_subprocess_exec("grep", "7", stdin=PIPE, stdout=PIPE)
    count = await asyncio.create_subprocess_exec("wc", "-l", stdin=PIPE, stdout=PIPE)
    first, second = await asyncio.gather(pump(numbers.stdout, sevens.stdin), pump(sevens.stdout, count.stdin))
    print(f"carried {first} and {second} bytes; wc says {(await count.stdout.read()).decode().strip()}")
    print("statuses:", [await child.wait() for child in (numbers, sevens, count)])


async def by_the_system() -> None:
    read, write = os.pipe()
    numbers = await asyncio.create_subprocess_exec("seq", "1", "20000", stdout=write)
    os.close(write)
    count = await asyncio.create_subprocess_exec("wc", "-l", stdin=read, stdout=PIPE)
    os.close(read)
    output, _ = await count.communicate()
    print(f"without us, wc says {output.decode().strip()}, statuses {await numbers.wait()} and {count.returncode}")


async def one_of_many(number: int) -> str:
    child: Process = await asyncio.create_subprocess_shell(
        {7: "exit 3", 11: "exec sleep 600"}.get(number, f"echo child {number}"), stdout=PIPE
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), timeout=None if number != 11 else 0.2)
    except asyncio.TimeoutError:
        child.kill()
        return f"child {number} took too long: {signal.Signals(-await child.wait()).name}"
    return output.decode().strip() or f"child {number} failed with status {child.returncode}"


async def main() -> None:
    await through_this_program()
    await by_the_system()
    for line in await asyncio.gather(*map(one_of_many, range(20))):
        print(line)


asyncio.run(main())
