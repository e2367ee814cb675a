"""A full interface: in a network of its own (network_namespaces(7)), with a kilobyte a second (tc-tbf(8))."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.support.programs import NEW_LOOP

NETWORK = ["unshare", "--net", "sh", "-c"]
SET_UP = "ip link set lo up && tc qdisc add dev lo root tbf rate 8kbit burst 2000 limit 3000"


@pytest.fixture(autouse=True)
def _allowed():
    if not all(shutil.which(program) for program in ("unshare", "ip", "tc")):
        pytest.skip("needs unshare, ip and tc")
    if subprocess.run([*NETWORK, SET_UP], capture_output=True).returncode:
        pytest.skip("not allowed to make a network, or the kernel has no such queue")


PROGRAM = """
import asyncio, errno, socket, subprocess, sys, time

class Client(asyncio.DatagramProtocol):
    def error_received(self, exc):
        errors.append(exc.errno)

async def main():
    loop = asyncio.get_running_loop()
    receiver = socket.socket(type=socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.setblocking(False)
    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=receiver.getsockname())
    # Without it the kernel drops what the interface has no room for and says nothing: IP_RECVERR, ip(7).
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, 11, 1)
    for _ in range(50):
        transport.sendto(bytes(1000))
    await asyncio.sleep(0)
    assert 40 < len(errors) < 50, errors
    assert set(errors) == {{errno.ENOBUFS}}, errors
    print("told of each")

    used, started = time.process_time(), time.monotonic()
    await asyncio.sleep(0.3)
    assert time.process_time() - used < 0.3 * (time.monotonic() - started)
    assert transport.get_write_buffer_size() == 0
    assert not transport.is_closing()
    print("idle")

    errors.clear()
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
    transport.sendto(b"afterwards")
    while receiver.recv(2000) != b"afterwards":
        pass
    assert errors == []
    transport.close()
    receiver.close()
    await asyncio.sleep(0)
    print("usable")

errors = []
loop = {new_loop}
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.slow
def test_a_full_interface_is_an_error_for_each_datagram_and_costs_no_processor_time(loop_name):
    code = textwrap.dedent(PROGRAM.format(new_loop=NEW_LOOP[loop_name]))
    done = subprocess.run(
        [*NETWORK, f'{SET_UP} && exec "$0" -W error -c "$1"', sys.executable, code],
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["told of each", "idle", "usable"]
