"""The judge finds what it is there for: whatever happens to a byte on its way, and every event that comes wrongly."""

from __future__ import annotations

import pytest

from tests.chaos.accounts import Judge
from tests.chaos.frames import CLIENT, SERVER, Checker, Numbering
from tests.chaos.plans import plan


def stream():
    numbering = Numbering(CLIENT, 7)
    return b"".join(numbering.frame(payload) for payload in (b"first", b"", bytes(range(200)), b"last"))


def faults_of(data, piece):
    faults = []
    checker = Checker(CLIENT, 7, lambda kind, number: None, faults.append)
    for start in range(0, len(data), piece):
        checker.feed(data[start : start + piece])
    return faults + ["in mid-frame"] * checker.is_in_frame


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_what_was_sent_is_accepted_in_any_pieces(piece):
    assert faults_of(stream(), piece) == []


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("harm", ["changed", "missing", "doubled", "somebody else's"])
def test_a_single_wrong_byte_is_found(harm, piece):
    data = stream()
    for at in range(len(data)):
        byte = data[at : at + 1]
        replaced = {
            "changed": bytes([byte[0] ^ 1]),
            "missing": b"",
            "doubled": byte * 2,
            "somebody else's": bytes([byte[0] ^ 0xFF]),
        }
        assert faults_of(data[:at] + replaced[harm] + data[at + 1 :], piece), at


@pytest.fixture
def accounts():
    """Of both ends of a connection that has begun."""
    judge = Judge()
    this = next(p for p in (plan(1, number) for number in range(1000)) if p.is_peaceful)
    client, server = judge.open(CLIENT, this), judge.open(SERVER)
    for account in (client, server):
        account.begin()
    judge.claim(server, this.number)
    client.sent = 100
    server.data(100)
    return client, server


def end(client, server):
    for account in (client, server):
        account.ended = "eof"
        account.end_of_input()
        account.end(None)
    client.judge.compare()


def test_a_peaceful_connection_has_no_faults(accounts):
    end(*accounts)
    assert accounts[0].judge.faults == []
    assert accounts[0].judge.complete == 2


@pytest.mark.parametrize(
    ("wrong", "after"),
    [
        (lambda account: account.begin(), False),
        (lambda account: account.begin(), True),
        (lambda account: account.data(1), False),
        (lambda account: account.data(1), True),
        (lambda account: account.data(0), False),
        (lambda account: account.end_of_input(), False),
        (lambda account: account.end_of_input(), True),
        (lambda account: account.end(None), False),
        (lambda account: account.end(None), True),
        (lambda account: account.pause(False), False),
        (lambda account: account.pause(True), True),
        (lambda account: account.end(KeyError()), False),
        (lambda account: account.judge.claim(account, account.plan.number), False),
        (lambda account: account.judge.claim(account, -1), False),
    ],
)
def test_a_wrong_event_is_a_fault(accounts, wrong, after):
    if after:
        end(*accounts)
        wrong(accounts[1])
    else:
        wrong(accounts[1])
        end(*accounts)
    assert accounts[0].judge.faults != []
