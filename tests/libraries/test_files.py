"""aiofiles, and the executors of concurrent.futures through `run_in_executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing

import pytest

from tests.peers.programs import package


def test_files_are_written_and_read(run, tmp_path):
    aiofiles = package("aiofiles")
    aiofiles_os = package("aiofiles.os")

    async def copy(number):
        path = tmp_path / f"{number}"
        async with aiofiles.open(path, "w") as file:
            for line in range(100):
                await file.write(f"{number} {line}\n")
        async with aiofiles.open(path) as file:
            lines = [line async for line in file]
        await aiofiles_os.remove(path)
        return lines

    async def main():
        for number, lines in enumerate(await asyncio.gather(*(copy(number) for number in range(20)))):
            assert lines == [f"{number} {line}\n" for line in range(100)]
        assert await aiofiles_os.listdir(tmp_path) == []
        with pytest.raises(FileNotFoundError):
            async with aiofiles.open(tmp_path / "nothing"):
                pass

    run(main)


def square(number):
    return number * number


def fail():
    raise ValueError("as asked")


def pool_of_processes():
    # Spawned: a fork of a process with threads is deprecated.
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("make", [pool_of_processes, lambda: concurrent.futures.ThreadPoolExecutor(2)])
def test_work_is_done_by_a_pool(run, loop, resource_tracker, make):
    async def main():
        with make() as pool:
            results = await asyncio.gather(*(loop.run_in_executor(pool, square, number) for number in range(50)))
            assert results == [number * number for number in range(50)]
            with pytest.raises(ValueError, match="as asked"):
                await loop.run_in_executor(pool, fail)

    run(main)
