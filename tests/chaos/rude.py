"""Clients without manners, who work a raw socket: they reset, stall, trickle, never read, or stop in mid-frame."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from tests.chaos import frames
from tests.chaos.ends import RESET
from tests.chaos.frames import CLIENT, SERVER, Checker, Numbering
from tests.chaos.plans import TLS

if TYPE_CHECKING:
    import random

    from tests.chaos.accounts import Account
    from tests.chaos.plans import Plan


class RudeClient:
    def __init__(self, sock: socket.socket, plan: Plan, account: Account, chance: random.Random) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = sock
        self.plan = plan
        self.account = account
        self.chance = chance
        self.numbering = Numbering(CLIENT, plan.number)
        self.checker = Checker(SERVER, plan.number, lambda kind, number: None, account.fault)

    async def talk(self) -> None:
        """Do the worst. Whoever waits for this end gets it: the socket is closed in all cases."""
        try:
            await getattr(self, f"do_{self.plan.rude}")()
        except OSError as error:
            self.account.error = error
        finally:
            self.sock.close()

    async def send(self, data: bytes) -> None:
        self.account.sent += len(data)
        await self.loop.sock_sendall(self.sock, data)

    async def send_frames(self, count: int) -> None:
        for _ in range(count):
            size = self.chance.randrange(3000)
            await self.send(self.numbering.frame(frames.NOISE[size : 2 * size]))

    async def read_to_the_end(self) -> None:
        while data := await self.loop.sock_recv(self.sock, 1 << 16):
            if self.plan.way not in TLS:
                self.account.received += len(data)
                self.checker.feed(data)
        self.account.eof = True

    async def do_reset(self) -> None:
        self.account.torn = True
        await self.send_frames(self.chance.randrange(1, 5))
        await asyncio.sleep(self.chance.choice([0, 0.002]))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async def do_stall(self) -> None:
        await self.send_frames(1)
        await self.send(self.numbering.frame(bytes(100))[:50])
        await asyncio.sleep(0.02)
        self.account.ended = "close"

    async def do_trickle(self) -> None:
        await self.send(self.numbering.frame(b""))
        for byte in self.numbering.frame(bytes(range(100))):
            await self.send(bytes([byte]))
            await asyncio.sleep(0)
        self.sock.shutdown(socket.SHUT_WR)
        self.account.ended = "eof"
        await self.read_to_the_end()

    async def do_deaf(self) -> None:
        self.account.torn = True
        await self.send_frames(1)
        await asyncio.sleep(0.02)

    async def do_torn(self) -> None:
        await self.send_frames(self.chance.randrange(1, 3))
        await self.send(self.numbering.frame(bytes(1000))[: self.chance.randrange(1, 900)])
        self.sock.shutdown(socket.SHUT_WR)
        self.account.ended = "eof"
        await self.read_to_the_end()
