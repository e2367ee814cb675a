"""The judge: an account for each end of each connection, and what has to be true of them at the end.

Ends enter what happens to them as it happens. What must never happen is a fault at once: bytes before the beginning,
after the end or while reading is paused, an end without a beginning, a second end, a foreign or damaged frame. After
the program the two accounts of a connection are compared.
"""

from __future__ import annotations

import dataclasses
import ssl
from typing import TYPE_CHECKING

from tests.chaos.frames import CLIENT
from tests.chaos.plans import ORDERLY

if TYPE_CHECKING:
    from tests.chaos.frames import Checker
    from tests.chaos.plans import Plan

#: What the end of a connection may be blamed on; SSLError is an OSError, too.
LOSSES = (OSError, ssl.SSLError)

#: What asyncio's `sendfile` says in `eof_received` while it stands in for the protocol: TLS ends although it is paused.
ENDED_IN_SENDFILE = "Invalid state: reading should be paused"
#: CPython's transport reads again after a pause, finds the end again, and says so again.
END_AGAIN = "the end of the input again"
#: Its TLS transport forgets its parts when it is closed, and a reader that is read from then fails.
CPYTHONS_FAULTS = (END_AGAIN, "'NoneType' object has no attribute '_resume_reading'")


@dataclasses.dataclass(eq=False)
class Account:
    """Of one end. A connection that the server accepted has no plan until its first frame has come."""

    judge: Judge
    side: int
    plan: Plan | None = None
    has_callbacks: bool = True  # streams tell of bytes and of the end of the input only
    checker: Checker | None = None
    sent: int = 0
    received: int = 0
    made: int = 0
    lost: int = 0
    eof: bool = False
    reading_paused: bool = False
    writing_paused: bool = False
    error: BaseException | None = None
    #: How it has ended its own side; None: not at all, or the transport has for it.
    ended: str | None = None
    has_left: bool = False  # closed or aborted the transport
    #: Some of `sent` may not have left: an abort, a cancelled sendfile, an error.
    torn: bool = False
    #: The end of this connection is the transport's affair, such as that of a handshake that has failed.
    is_abandoned: bool = False

    def __str__(self) -> str:
        side = "client" if self.side == CLIENT else "server"
        fields = (f"{name}={getattr(self, name)!r}" for name in ("sent", "received", "made", "lost", "eof", "error"))
        return f"{side} of {self.plan}: {', '.join(fields)}, ended={self.ended}, torn={self.torn}"

    def fault(self, what: str) -> None:
        self.judge.faults.append(f"{what}: {self}")

    def begin(self) -> None:
        self.made += 1
        if self.made > 1 or self.lost:
            self.fault("made again")

    def data(self, size: int) -> None:
        self.received += size
        if not size:
            self.fault("data of no bytes")
        if self.has_callbacks and (not self.made or self.lost or self.eof):
            self.fault("data outside of the connection")
        if self.reading_paused:
            self.fault("data while reading is paused")

    def end_of_input(self) -> None:
        if self.has_callbacks and (not self.made or self.lost):
            self.fault("eof outside of the connection")
        if self.eof:
            self.fault(END_AGAIN)
        if self.reading_paused and not (self.plan and self.plan.is_secure):
            self.fault("eof while reading is paused")
        self.eof = True

    def pause(self, paused: bool) -> None:
        if self.writing_paused == paused or self.lost:
            self.fault(f"paused again or after the end ({paused})")
        self.writing_paused = paused

    def end(self, error: BaseException | None) -> None:
        self.lost += 1
        self.error = error
        if not self.made or self.lost > 1:
            self.fault("lost without having been made, or twice")
        if error is None and not self.eof and self.ended is None and not self.is_abandoned:
            self.fault("lost without a reason")
        is_stand_in = isinstance(error, RuntimeError) and str(error) == ENDED_IN_SENDFILE
        if (
            error is not None
            and not isinstance(error, LOSSES)
            and not (is_stand_in and self.plan and self.plan.is_secure)
        ):
            self.fault(f"lost by {error!r}")


class Judge:
    """All accounts of a program."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.accounts: list[Account] = []
        self.clients: dict[int, Account] = {}
        self.servers: dict[int, Account] = {}
        #: Reasons to be content: connections of which every byte was compared.
        self.complete = 0

    def faults_of(self, loop_name: str) -> list[str]:
        """All faults but those that CPython is known for."""
        known = CPYTHONS_FAULTS if loop_name == "asyncio" else ()
        return [fault for fault in self.faults if not any(text in fault for text in known)]

    def open(self, side: int, plan: Plan | None = None, *, has_callbacks: bool = True) -> Account:
        account = Account(self, side, plan, has_callbacks)
        self.accounts.append(account)
        if side == CLIENT and plan is not None:
            self.clients[plan.number] = account
        return account

    def claim(self, account: Account, number: int) -> Plan | None:
        """The server's end has read whose connection it is."""
        if number not in self.clients or number in self.servers:
            account.fault(f"connection {number} is nobody's, or another's")
            return None
        self.servers[number] = account
        account.plan = self.clients[number].plan
        return account.plan

    def compare(self) -> None:
        """After the end of everything."""
        for account in self.accounts:
            if account.has_callbacks and account.made != account.lost and not account.is_abandoned:
                account.fault("made and not lost")
        for number, server in self.servers.items():
            client = self.clients[number]
            for sender, receiver in ((client, server), (server, client)):
                self._compare(sender, receiver)

    def _compare(self, sender: Account, receiver: Account) -> None:
        plan = sender.plan
        assert plan is not None
        if receiver.received > sender.sent:
            receiver.fault(f"more bytes than {sender.sent}")
        is_orderly = sender.ended in ORDERLY and not sender.torn and sender.error is None
        if receiver.eof and is_orderly:
            self.complete += 1
            if receiver.received != sender.sent:
                receiver.fault(f"the end before all {sender.sent} bytes")
            if plan.rude is None and receiver.checker is not None and receiver.checker.is_in_frame:
                receiver.fault("the end in mid-frame")
        elif plan.is_peaceful and not sender.torn and not receiver.torn:
            receiver.fault(f"no end of the {sender.sent} bytes of a peaceful connection")
