"""`python -m ironloop bench`: real loops, measured in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from xml.etree import ElementTree

import pytest
from ironloop.bench import client, report, session
from ironloop.bench.rows import CONNECTIONS, ROWS, SIZE

LOOPS = ["--loop", "asyncio", "--loop", "ironloop"]


def bench(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "ironloop", "bench", *arguments], capture_output=True, text=True, timeout=250, **options
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_row_is_measured_shown_kept_and_drawn(tmp_path):
    kept, drawn = tmp_path / "result.json", tmp_path / "chart.svg"
    done = bench(*LOOPS, "--rounds", "1", "--seconds", "1", "--json", str(kept), "--svg", str(drawn))
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ROWS.values():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(row.title + " ")]
        *rates, to_base, to_best = line[len(row.title) :].split()
        assert len(rates) == 2
        assert to_base == to_best, "there is one other loop"
    assert "load client in Python" in done.stdout
    result = json.loads(kept.read_text())
    assert list(result["samples"]) == list(ROWS)
    for row in ROWS:
        for name in ("asyncio", "ironloop"):
            (sample,) = result["samples"][row][name]
            assert sample["rate"] > 0
            assert sample["rate_of_cpu"] > 0
    texts = [element.text for element in ElementTree.parse(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in {row.title for row in ROWS.values()}] == [
        row.title for row in ROWS.values()
    ]
    assert len(list(ElementTree.parse(drawn).iter("{http://www.w3.org/2000/svg}rect"))) == len(ROWS) + 1, (
        "and the legend"
    )


def test_another_loops_process_imports_nothing_of_ours():
    program = "from ironloop_bench.worker import main; main(*sys.argv[2:]); print('ironloop' in sys.modules)"
    imported = {
        name: subprocess.run(
            session._command(program, "call_soon", name, "0.01"), capture_output=True, text=True, check=True, timeout=50
        ).stdout.splitlines()[-1]
        for name in ("asyncio", "ironloop")
    }
    assert imported == {"asyncio": "False", "ironloop": "True"}


BROKEN = """
import asyncio

class Loop(asyncio.SelectorEventLoop):
    def call_later(self, *args):
        raise NotImplementedError("timers come later")

new_event_loop = Loop
"""


@pytest.mark.slow
def test_a_loop_that_cannot_do_a_row_says_why(tmp_path):
    (tmp_path / "rloop.py").write_text(BROKEN)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = bench(
        *LOOPS,
        *("--loop", "rloop", "--rounds", "1", "--seconds", "0", "call_soon", "timers"),
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 1
    lines = {line.partition("  ")[0]: line.split() for line in done.stdout.splitlines()}
    assert lines[ROWS["timers"].title][-3] == "-"
    assert "-" not in lines[ROWS["call_soon"].title]
    assert "timers, rloop: NotImplementedError: timers come later" in done.stdout


def test_a_loop_that_is_not_there_says_why(tmp_path):
    (tmp_path / "rloop.py").write_text("raise ImportError('made for another machine')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = bench("--loop", "rloop", env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 1
    assert "rloop is not here: ImportError: made for another machine" in done.stderr


def test_a_wrong_usage_says_what_there_is():
    for arguments, message in (
        (["no_such_row"], "there is no row 'no_such_row': call_soon, "),
        (["--loop", "no_such_loop"], "there is no loop 'no_such_loop': asyncio, "),
        (["--rounds", "0"], "there is at least one round"),
    ):
        done = bench(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
    assert bench("--list").stdout.splitlines()[0].split(maxsplit=1) == ["call_soon", ROWS["call_soon"].title]


def answer(listener, change):
    """Serve the connections of one load; `change` is applied to what comes back."""

    def serve(connection):
        with connection:
            while data := connection.recv(SIZE, socket.MSG_WAITALL):
                connection.sendall(change(data))

    threads = [threading.Thread(target=serve, args=(listener.accept()[0],)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def loaded(change):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener, change))
        thread.start()
        try:
            return client.load(listener.getsockname()[1], os.getpid(), 0.01)
        finally:
            thread.join()


def test_the_load_client_counts_requests_and_the_servers_cpu_time():
    found = loaded(bytes)
    # The server is this process, which does everything: it cannot have used more CPU time than its threads had.
    assert 0 < found["rate"] <= found["rate_of_cpu"] * (os.cpu_count() or 1)


def test_a_server_that_sends_something_else_is_found_out():
    with pytest.raises(RuntimeError, match="something else"):
        loaded(lambda data: data[::-1])


def test_the_table_shows_medians_and_ratios():
    samples = {
        "asyncio": [{"rate_of_cpu": rate} for rate in (1000.0, 1100.0, 5000.0)],
        "uvloop": [{"rate_of_cpu": 2200.0}, {"error": "gone"}],
        "ironloop": [{"rate_of_cpu": 4.4e6}],
    }
    versions = {"asyncio": "3", "uvloop": "1", "ironloop": "2"}
    result = session.Result("a machine", versions, {"rloop": "ImportError"}, 3, 0.1, {"call_soon": samples})
    lines = report.table(result).splitlines()
    (line,) = [line for line in lines if line.startswith(ROWS["call_soon"].title)]
    assert line[len(ROWS["call_soon"].title) :].split() == ["1.1k", "2.2k", "4.4M", "4000.00", "2000.00"]
    assert lines[-2:] == ["rloop is not here: ImportError", "call_soon, uvloop: gone"]
