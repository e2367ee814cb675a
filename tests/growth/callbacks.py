"""One repetition of what concerns callbacks, timers, tasks, threads and the loop itself."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ironloop
import pytest


class Callbacks:
    """The coroutines want `loop`."""

    loop: Any

    async def callbacks(self) -> None:
        loop = self.loop
        loop.call_soon(len, "x")
        loop.call_soon(len, "x").cancel()
        loop.call_soon_threadsafe(max, 1, 2)
        loop.call_later(0, len, "x")
        loop.call_later(1000, len, "x").cancel()
        loop.call_soon(int)
        await asyncio.sleep(0)

    async def timers(self) -> None:
        first = self.loop.call_at(self.loop.time(), len, "x")
        second = self.loop.call_later(1000, len, "x")
        assert first < second
        assert first.when() < second.when()
        assert "len" in repr(second)
        assert second.get_context() is not None
        second.cancel()
        assert second.cancelled()
        await asyncio.sleep(0)

    async def failing_callbacks(self) -> None:
        self.loop.call_soon(lambda: 1 // 0)
        for wrong in ((), (None, len), ("soon", len)):
            with pytest.raises(TypeError):
                self.loop.call_later(*wrong)
        await asyncio.sleep(0)

    async def tasks(self) -> None:
        task = self.loop.create_task(asyncio.sleep(0, "done"))
        assert await task == "done"
        task = self.loop.create_task(asyncio.sleep(1000))
        task.cancel()
        await asyncio.wait([task])
        future = self.loop.create_future()
        future.set_result(1)
        await future

    async def futures(self) -> None:
        future = self.loop.create_future()
        future.add_done_callback(repr)
        self.loop.call_soon(future.set_exception, LookupError())
        with pytest.raises(LookupError):
            await future
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(self.loop.create_future(), 0.0001)
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    async def generators(self) -> None:
        async def count() -> Any:
            yield 1
            yield 2

        async for _ in count():
            break
        await asyncio.sleep(0)

    async def executor(self) -> None:
        assert await self.loop.run_in_executor(None, len, "x") == 1
        with pytest.raises(ZeroDivisionError):
            await self.loop.run_in_executor(None, divmod, 1, 0)

    async def other_threads(self) -> None:
        """What a thread asks of the loop; in an executor of asyncio's kind."""

        def ask() -> str:
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "done"), self.loop).result()

        with ThreadPoolExecutor(1) as pool:
            assert await self.loop.run_in_executor(pool, ask) == "done"

    async def signals(self) -> None:
        arrived = self.loop.create_future()
        self.loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, "arrived")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await arrived == "arrived"
        self.loop.remove_signal_handler(signal.SIGUSR1)

    async def addresses(self) -> None:
        assert await self.loop.getaddrinfo("127.0.0.1", 1)
        assert await self.loop.getaddrinfo("localhost", 1)
        assert await self.loop.getnameinfo(("127.0.0.1", 1))
        with pytest.raises(OSError):
            await self.loop.getaddrinfo("127.0.0.1", "no such service")

    async def settings(self) -> None:
        loop = self.loop
        loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
        await loop.create_task(asyncio.sleep(0))
        loop.set_task_factory(None)
        loop.set_debug(True)
        loop.call_soon(len, "x")
        await asyncio.sleep(0)
        loop.set_debug(False)
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda *_: None)
        loop.call_exception_handler({"message": "none"})
        loop.set_exception_handler(handler)
        assert "running=True" in repr(loop)

    async def figures(self) -> None:
        metrics = self.loop.metrics()
        assert metrics.lag.quantile(0.5) >= 0
        assert metrics.as_dict()
        assert ironloop.metrics.prometheus(self.loop)
        with self.loop.watch(60):
            await asyncio.sleep(0)

    async def traces(self) -> None:
        with ironloop.trace(os.devnull, self.loop):
            self.loop.call_soon(len, "x")
            await asyncio.sleep(0)

    async def other_loops(self) -> None:
        """Each with a task, a timer that stays and a callback that stays; in a thread, as this one runs a loop."""

        async def main() -> None:
            asyncio.get_running_loop().call_later(1000, len, "x")

        def run() -> None:
            loop = ironloop.new_event_loop()
            loop.run_until_complete(main())
            loop.call_soon(io.BytesIO)
            loop.close()

        await self.loop.run_in_executor(None, run)
