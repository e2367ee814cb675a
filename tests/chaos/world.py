"""Listeners of every kind, and clients that come by the hundred: the program of a seed, while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

from tests.chaos.accounts import Judge
from tests.chaos.ends import KINDS, End, StreamEnd
from tests.chaos.frames import CLIENT, SERVER
from tests.chaos.plans import INTERFACES, Plan, plan
from tests.chaos.rude import RudeClient
from tests.support.certificate import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

AT_ONCE = 60
#: No program takes that long on any machine: who is still there waits for something that does not come.
HANGS_AFTER_SECONDS = 120


class OwnObject(ssl.SSLObject):
    """A context with a class of its own for its objects has ironloop drive these, instead of OpenSSL itself."""


class World:
    """A program, while it runs."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.judge = Judge()
        self.random = random.Random(seed)
        self.alive: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.transports: weakref.WeakSet[Any] = weakref.WeakSet()
        self.contexts = client_context(), server_context()
        self.fallback = client_context(), server_context()
        for context in self.fallback:
            context.sslobject_class = OwnObject
        self.addresses: dict[tuple[str, str], Any] = {}

    # Tasks

    def keep(self, task: asyncio.Task[None]) -> None:
        """The world ends after the task, and fails with it."""
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            line = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
            self.judge.faults.append(f"{task.get_name()}: {error!r} at {line}")

    def play(self, end: End) -> None:
        """The server's end has read whose it is, and begins."""
        assert end.account.plan is not None
        self.perform(end.play(), end.account.plan, end.account.plan.server.cancel_after)

    def perform(self, script: Coroutine[Any, Any, None], plan: Plan, cancel_after: int | None) -> asyncio.Task[None]:
        task = asyncio.create_task(script, name=f"connection {plan.number}")
        self.keep(task)
        if cancel_after is not None:
            self.keep(asyncio.create_task(cancel(task, cancel_after)))
        return task

    # Servers

    def accept(self, interface: str) -> Any:
        """The protocol of a connection that has come in."""
        if interface != "streams":
            return KINDS[interface](self, self.judge.open(SERVER))

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            end = StreamEnd(self, self.judge.open(SERVER, has_callbacks=False))
            end.start(reader, writer)

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), connected)

    @contextlib.asynccontextmanager
    async def listeners(self, folder: str) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        servers = []
        for interface in INTERFACES:

            def factory(interface: str = interface) -> Any:
                return self.accept(interface)

            ways = {"tcp": None, "tls": self.contexts[1], "fallback": self.fallback[1]}
            for way, context in ways.items():
                server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context, backlog=200)
                servers.append(server)
                self.addresses[way, interface] = server.sockets[0].getsockname()
            self.addresses["upgrade", interface] = self.addresses["tcp", interface]
            for way, context in {"unix": None, "tls over unix": self.contexts[1]}.items():
                path = os.path.join(folder, f"{way} {interface}")
                servers.append(await loop.create_unix_server(factory, path, ssl=context, backlog=200))
                self.addresses[way, interface] = path
        yield
        for server in servers:
            server.close()

    # Clients

    async def destination(self, plan: Plan, chance: random.Random) -> dict[str, Any]:
        """The arguments of `create_connection` and its relatives."""
        options: dict[str, Any] = {}
        if plan.way in ("tls", "tls over unix", "fallback"):
            options["ssl"] = (self.fallback if plan.way == "fallback" else self.contexts)[0]
            options["server_hostname"] = "localhost"
        if plan.way == "pair":
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            accepting = asyncio.get_running_loop().connect_accepted_socket(
                lambda: self.accept(plan.server.interface), theirs
            )
            self.keep(asyncio.create_task(ignore_result(accepting)))
            return {"sock": ours}
        address = self.addresses[plan.way, plan.server.interface]
        if isinstance(address, str):
            return {"path": address, **options}
        if plan.rude or chance.random() < 0.3:
            return {"sock": await connected_socket(address), **options}
        return {"host": address[0], "port": address[1], **options}

    async def client(self, number: int) -> None:
        this = plan(self.seed, number)
        account = self.judge.open(CLIENT, this, has_callbacks=this.rude is None and this.client.interface != "streams")
        chance = random.Random(f"{self.seed} client {number}")
        if this.rude:
            address = self.addresses[this.way, this.server.interface]
            await RudeClient(await connected_socket(address), this, account, chance).talk()
            return
        where = await self.destination(this, chance)
        end = KINDS[this.client.interface](self, account)
        try:
            await self.connect(end, where)
        except BaseException:
            account.ended, account.torn = "abort", True
            raise
        await end.play()

    async def connect(self, end: Any, where: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        unix = "path" in where
        if isinstance(end, StreamEnd):
            opened = await (asyncio.open_unix_connection if unix else asyncio.open_connection)(**where)
            end.start(*opened)
            # asyncio's own way of accepting is not over before the first bytes, and its first are ours.
        else:
            await (loop.create_unix_connection if unix else loop.create_connection)(lambda: end, **where)
        end.write(end.payload(end.chance.randrange(100)))

    # All of it

    async def run(self, connections: int) -> None:
        numbers = iter(range(connections))

        async def one_after_the_other() -> None:
            for number in numbers:
                this = plan(self.seed, number)
                task = self.perform(self.client(number), this, this.client.cancel_after)
                await asyncio.wait([task])

        with tempfile.TemporaryDirectory() as folder:
            async with self.listeners(folder):
                await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
        while self.alive or self.tasks:
            await asyncio.sleep(0.001)
        self.judge.compare()

    def forget(self) -> None:
        """Let go of the accounts: their errors have tracebacks, which have everything."""
        self.judge = Judge()

    def who_hangs(self) -> list[str]:
        waiting = [str(end.account) for end in self.alive] + [repr(task) for task in self.tasks]
        named = [self.judge.clients, self.judge.servers]
        for name in {task.get_name() for task in self.tasks if task.get_name().startswith("connection ")}:
            number = int(name.rpartition(" ")[2])
            waiting += [str(accounts[number]) for accounts in named if number in accounts]
        return waiting + self.judge.faults


async def cancel(task: asyncio.Task[None], turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()


async def ignore_result(work: Coroutine[Any, Any, Any]) -> None:
    await work


async def connected_socket(address: Any) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def run_world(seed: int, connections: int) -> World:
    """Run the program of a seed to its end; raises if it has none."""
    world = World(seed)
    running = asyncio.create_task(world.run(connections))
    await asyncio.wait([running], timeout=HANGS_AFTER_SECONDS)
    if not running.done():
        raise TimeoutError("\n".join([f"seed {seed} hangs:", *world.who_hangs()]))
    running.result()
    return world
