"""The ends of connections as programs write them: with `Protocol`, `BufferedProtocol` and streams.

An end enters what happens to it in its account, feeds what it receives to its checker, and does what its script says,
in a task that may be cancelled at any await.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import tempfile
from typing import TYPE_CHECKING, Any

from tests.chaos import frames
from tests.chaos.accounts import LOSSES
from tests.chaos.frames import CLIENT, DATA, GO, SERVER, UPGRADE, Checker, Numbering

if TYPE_CHECKING:
    from tests.chaos.accounts import Account
    from tests.chaos.plans import Script
    from tests.chaos.world import World

#: An end that has closed does not read on while its queue leaves, nor does one in a sendfile: two such ends wait for
#: each other for ever, on every loop. That long they are left alone.
PATIENCE_SECONDS = 3

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST (socket(7))


class End:
    """What all kinds have in common."""

    transport: Any
    numbering: Numbering

    def __init__(self, world: World, account: Account) -> None:
        self.world = world
        self.account = account
        self.peer_ended = asyncio.Event()
        self.go = asyncio.Event()
        self.impatience: asyncio.TimerHandle | None = None
        side, number = account.side, None if account.plan is None else account.plan.number
        self.checker = Checker(SERVER if side == CLIENT else CLIENT, number, self.on_frame, account.fault)
        account.checker = self.checker
        self.chance = random.Random(f"{world.seed} {side} {number}")
        if number is not None:
            self.numbering = Numbering(side, number)

    @property
    def script(self) -> Script:
        assert self.account.plan is not None
        return self.account.plan.client if self.account.side == CLIENT else self.account.plan.server

    def on_frame(self, kind: int, number: int) -> None:
        if self.account.plan is None:
            plan = self.world.judge.claim(self.account, number)
            if plan is None:
                return
            self.numbering = Numbering(SERVER, number)
            self.chance = random.Random(f"{self.world.seed} {number}")
            if plan.way != "upgrade":
                self.world.play(self)
        if kind == UPGRADE:
            self.world.play(self)
        elif kind == GO:
            self.go.set()

    # What scripts are made of

    async def play(self) -> None:
        try:
            if self.account.plan.way == "upgrade":
                await self.upgrade()
            for kind, argument in self.script.steps:
                await getattr(self, f"do_{kind}")(argument)
            await self.finish(self.script.end)
        except asyncio.CancelledError:
            self.leave(self.chance.choice(["close", "abort"]))
            raise

    async def upgrade(self) -> None:
        raise NotImplementedError

    def is_open(self) -> bool:
        return not self.transport.is_closing() and self.account.ended is None

    def write(self, payload: bytes, kind: int = DATA) -> None:
        frame = self.numbering.frame(payload, kind)
        if not self.is_open():
            return
        self.account.sent += len(frame)
        form = self.chance.randrange(3)
        if form == 0:
            self.transport.write(frame)
        elif form == 1:
            self.transport.write(memoryview(frame))
        else:
            changing = bytearray(frame)
            self.transport.write(changing)
            changing[:] = bytes(len(changing))

    def payload(self, size: int) -> bytes:
        start = self.chance.randrange(len(frames.NOISE) - size)
        return frames.NOISE[start : start + size]

    async def do_write(self, size: int) -> None:
        self.write(self.payload(size))

    async def do_lines(self, sizes: list[int]) -> None:
        if self.is_open():
            lines = [self.numbering.frame(self.payload(size)) for size in sizes]
            self.account.sent += sum(map(len, lines))
            self.transport.writelines(lines)

    async def do_turns(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def do_sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def do_drain(self, _: None) -> None:
        raise NotImplementedError

    async def do_pause(self, turns: int) -> None:
        if not self.is_open():
            return
        self.transport.pause_reading()
        self.account.reading_paused = self.account.has_callbacks
        try:
            await self.do_turns(turns)
        finally:
            self.account.reading_paused = False
            self.transport.resume_reading()

    async def do_sendfile(self, size: int) -> None:
        await self.do_drain(None)
        if not self.is_open():
            return
        frame = self.numbering.frame(self.payload(size))
        with tempfile.TemporaryFile() as file:
            file.write(frame)
            file.seek(0)  # the fallback begins where the file is
            self.account.sent += len(frame)
            self.account.torn = True
            loop = asyncio.get_running_loop()
            surrender = loop.call_later(PATIENCE_SECONDS, asyncio.current_task().cancel)
            try:
                sent = await loop.sendfile(self.transport, file, 0)
            except (ConnectionError, ssl.SSLError):
                pass
            except RuntimeError as error:
                if self.is_open():
                    self.account.fault(f"sendfile failed: {error!r}")
            except asyncio.CancelledError:
                self.leave("abort")
                raise
            else:
                self.account.torn = sent != len(frame)
            finally:
                surrender.cancel()

    async def finish(self, how: str) -> None:
        if how in ("eof", "wait"):
            if how == "eof" and self.is_open():
                try:
                    self.transport.write_eof()
                except OSError:  # asyncio shuts the socket down at once, which may have been reset
                    self.leave("abort")
                    return
                self.account.ended = "eof"
            await self.peer_ended.wait()
            how = "close"
        self.leave(how)

    def leave(self, how: str) -> None:
        """End the connection at once, as far as that is up to this end."""
        self.account.has_left = True
        if how != "close":
            self.account.torn = True
        if how == "reset":
            how = "abort"
            if not self.transport.is_closing():
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self.account.ended is None or how == "abort":
            self.account.ended = how
        getattr(self.transport, how)()
        if how == "close" and self.impatience is None and self in self.world.alive:
            self.impatience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self.leave, "abort")

    def is_over(self) -> None:
        self.peer_ended.set()
        self.go.set()
        self.world.alive.discard(self)
        if self.impatience is not None:
            self.impatience.cancel()


class ProtocolEnd(End, asyncio.Protocol):
    def __init__(self, world: World, account: Account) -> None:
        super().__init__(world, account)
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.world.transports.add(transport)
        self.world.alive.add(self)
        self.account.begin()

    def data_received(self, data: bytes) -> None:
        self.account.data(len(data))
        self.checker.feed(data)

    def eof_received(self) -> bool | None:
        self.account.end_of_input()
        self.peer_ended.set()
        keep_open = self.account.plan is not None and self.script.keep_open
        if not keep_open and self.account.ended is None:
            self.account.ended = "close"
        return keep_open or None

    def pause_writing(self) -> None:
        self.account.pause(True)
        self.writable.clear()

    def resume_writing(self) -> None:
        self.account.pause(False)
        self.writable.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.account.end(exc)
        self.is_over()

    def is_over(self) -> None:
        super().is_over()
        self.writable.set()

    async def do_drain(self, _: None) -> None:
        await self.writable.wait()

    async def upgrade(self) -> None:
        if self.account.side == CLIENT:
            self.write(self.payload(3000))
            self.write(b"", UPGRADE)
            await self.go.wait()
        if not self.is_open():
            return
        if self.account.side == SERVER:
            self.write(b"", GO)
        loop, server = asyncio.get_running_loop(), self.account.side == SERVER
        context, name = self.world.contexts[server], None if server else "localhost"
        try:
            transport = await loop.start_tls(self.transport, self, context, server_side=server, server_hostname=name)
        except BaseException as error:
            self.account.torn = self.account.is_abandoned = True
            self.account.ended = "abort"
            self.transport.abort()
            self.is_over()
            if not isinstance(error, OSError):
                raise
        else:
            if transport is not None:
                self.transport = transport
                self.world.transports.add(transport)


class BufferedEnd(ProtocolEnd, asyncio.BufferedProtocol):
    data_received = None  # type: ignore[assignment]

    def get_buffer(self, hint: int) -> memoryview:
        self.buffer = bytearray(self.chance.choice([1, 100, 4096, 65536]))
        return memoryview(self.buffer)

    def buffer_updated(self, size: int) -> None:
        self.account.data(size)
        self.checker.feed(bytes(self.buffer[:size]))


class StreamEnd(End):
    def start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.transport = writer.transport
        self.account.made = 1
        self.world.alive.add(self)
        self.is_reading = asyncio.create_task(self.read())
        self.world.keep(self.is_reading)

    async def read(self) -> None:
        try:
            while data := await self.reader.read(self.chance.choice([1, 100, 5000, 100_000])):
                self.account.data(len(data))
                self.checker.feed(data)
            if not self.account.has_left:  # else it is the end that asyncio makes up for the reader
                self.account.end_of_input()
                if self.account.ended is None and self.account.plan is None:
                    self.leave("close")
        except LOSSES as error:
            self.account.error = error
            self.leave("close")
        finally:
            self.account.lost = 1
            self.is_over()

    async def do_drain(self, _: None) -> None:
        try:
            await self.writer.drain()
        except ConnectionError:
            pass

    async def do_pause(self, turns: int) -> None:
        """The reader pauses the transport by itself, when it has twice its limit."""
        await self.do_turns(turns)


KINDS = {"protocol": ProtocolEnd, "buffered": BufferedEnd, "streams": StreamEnd}
