"""What goes over the connections: frames that say whose they are, numbered and checksummed, so that any byte that is
missing, doubled, changed, late or somebody else's is found where it arrives.

    kind 1 | side 1 | connection 4 | number 4 | size 4 | CRC-32 of the payload 4 | payload
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

HEADER = struct.Struct("!BBIIII")
DATA, UPGRADE, GO = 0xD5, 0xA7, 0x60
CLIENT, SERVER = 0xC1, 0x5E

#: Payloads are pieces of it.
NOISE = random.Random(42).randbytes(3 << 20)


class Numbering:
    """Makes the frames of one end."""

    def __init__(self, side: int, connection: int) -> None:
        self.side = side
        self.connection = connection
        self.number = 0

    def frame(self, payload: bytes, kind: int = DATA) -> bytes:
        head = HEADER.pack(kind, self.side, self.connection, self.number, len(payload), zlib.crc32(payload))
        self.number += 1
        return head + payload


class Checker:
    """Takes the frames of the other end, in any pieces. What is wrong with them, it tells once, and stops looking.

    `on_frame(kind, connection)` is called when a frame's header is complete, `on_fault(what)` with what is wrong.
    """

    def __init__(
        self, side: int, connection: int | None, on_frame: Callable[[int, int], None], on_fault: Callable[[str], None]
    ) -> None:
        self.side = side
        self.connection = connection
        self.on_frame = on_frame
        self.on_fault = on_fault
        self.count = 0
        self.number = 0
        self.head = b""
        self.missing = 0  # bytes of the payload
        self.crc = self.wanted_crc = 0
        self.broken = False

    @property
    def is_in_frame(self) -> bool:
        """More has to come; a size that was changed on the way shows here."""
        return bool(self.head or self.missing)

    def feed(self, data: bytes | memoryview) -> None:
        self.count += len(data)
        view = memoryview(data)
        while view and not self.broken:
            if not self.missing:
                wanted = HEADER.size - len(self.head)
                self.head += bytes(view[:wanted])
                view = view[wanted:]
                if len(self.head) == HEADER.size:
                    self._begin()
            else:
                piece = view[: self.missing]
                self.crc = zlib.crc32(piece, self.crc)
                self.missing -= len(piece)
                view = view[len(piece) :]
                if not self.missing:
                    self._end()

    def _begin(self) -> None:
        kind, side, connection, number, size, self.wanted_crc = HEADER.unpack(self.head)
        if self.connection is None:
            self.connection = connection
        if kind not in (DATA, UPGRADE, GO) or (side, connection, number) != (self.side, self.connection, self.number):
            self._fault(f"frame {kind:#x} {side:#x} {connection} {number}, not {self.connection} {self.number}")
            return
        self.number += 1
        self.head = b""
        self.missing, self.crc = size, 0
        self.on_frame(kind, connection)
        if not size:
            self._end()

    def _end(self) -> None:
        if self.crc != self.wanted_crc:
            self._fault(f"frame {self.number - 1} has not the bytes that were sent")

    def _fault(self, what: str) -> None:
        self.broken = True
        self.on_fault(f"after {self.count} bytes: {what}")
