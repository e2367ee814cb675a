"""What happens on each connection, all of it from the seed: which way, between whom, what they do, how they end."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

# Ways of connecting; "pair" is a socket pair given to both ends, "upgrade" TCP that goes over to TLS.
PLAIN = ("tcp", "unix", "pair", "upgrade")
TLS = ("tls", "tls over unix", "fallback")
INTERFACES = ("protocol", "buffered", "streams")

#: Ends that give the other side all that was written before them, if it reads on.
ORDERLY = ("eof", "close", "wait")
#: Clients that work a raw socket.
RUDE = ("reset", "stall", "trickle", "deaf", "torn")

Step = tuple[str, Any]


@dataclasses.dataclass
class Script:
    """What one end does."""

    interface: str
    steps: list[Step]
    end: str  # one of ORDERLY, or "abort", "reset"
    keep_open: bool  # what eof_received returns
    cancel_after: int | None  # turns


@dataclasses.dataclass
class Plan:
    number: int
    way: str
    client: Script
    server: Script
    rude: str | None

    @property
    def is_secure(self) -> bool:
        return self.way in TLS or self.way == "upgrade"

    @property
    def is_peaceful(self) -> bool:
        """Both ends say all that they have to say and hear all that the other says."""
        ends = {self.client.end, self.server.end}
        return (
            self.rude is None
            and ends == {"eof"}
            and self.client.cancel_after is self.server.cancel_after is None
            and self.client.keep_open
            and self.server.keep_open
        )


def size(chance: random.Random) -> int:
    """Of a payload: mostly small, sometimes more than any buffer holds."""
    most = chance.choices((1, 100, 5_000, 70_000, 1_500_000), (10, 40, 30, 17, 3))[0]
    return chance.randrange(most + 1)


def steps(chance: random.Random, streams: bool) -> list[Step]:
    kinds = {"write": 50, "lines": 15, "drain": 20, "turns": 15, "sleep": 10, "pause": 12, "sendfile": 4}
    made: list[Step] = []
    if streams:
        # A reader that has read enough has the transport go on reading, even in the middle of a sendfile.
        del kinds["sendfile"]
    for kind in chance.choices(list(kinds), list(kinds.values()), k=chance.randrange(10)):
        argument: Any = None
        if kind in ("write", "sendfile"):
            argument = size(chance)
        elif kind == "lines":
            argument = [size(chance) % 3000 for _ in range(chance.randrange(1, 40))]
        elif kind in ("turns", "pause"):
            argument = chance.randrange(1, 8)
        elif kind == "sleep":
            argument = chance.random() * 0.004
        made.append((kind, argument))
    return made


def script(chance: random.Random, interface: str, secure: bool) -> Script:
    ends = {"eof": 0 if secure else 45, "close": 30, "abort": 10, "reset": 7, "wait": 12}
    return Script(
        interface,
        steps(chance, interface == "streams"),
        end=chance.choices(list(ends), list(ends.values()))[0],
        keep_open=not secure and chance.random() < 0.7,
        cancel_after=chance.randrange(25) if chance.random() < 0.2 else None,
    )


def plan(seed: int, number: int) -> Plan:
    chance = random.Random(f"{seed} {number}")
    way = chance.choices(PLAIN + TLS, (30, 20, 10, 6, 8, 3, 4))[0]
    secure = way in TLS or way == "upgrade"
    # asyncio's streams go over to TLS since Python 3.11 only, and on the server's side even later.
    interfaces = INTERFACES[:2] if way == "upgrade" else INTERFACES
    client = script(chance, chance.choice(interfaces), secure)
    server = script(chance, chance.choice(interfaces), secure)
    rude = chance.choice(RUDE) if way not in ("upgrade", "pair") and chance.random() < 0.15 else None
    if client.end == server.end == "wait":
        client.end = "close"
    # Streams end their side on their own, after they have read the other's end.
    for one in (client, server):
        one.keep_open |= one.interface == "streams" and not secure
    return Plan(number, way, client, server, rude)
