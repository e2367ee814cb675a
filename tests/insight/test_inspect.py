"""`ironloop.inspect` and `python -m ironloop top`: a process is looked at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading

import ironloop
import pytest
from ironloop import _top


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path / "ironloop"
    ironloop.inspect.disable()
    for thread in threading.enumerate():
        if thread.name == "ironloop-inspect":
            thread.join()


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


def look(path, count=1, interval=0.05):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(json.dumps({"interval": interval}).encode() + b"\n")
        with client.makefile() as lines:
            return [json.loads(lines.readline()) for _ in range(count)]


def test_nothing_listens_unless_asked_for(folder, loop):
    loop.run_until_complete(asyncio.sleep(0))
    assert not folder.exists()


def test_only_this_user_can_reach_the_socket(folder):
    path = ironloop.inspect.enable()
    assert path == folder / f"{os.getpid()}.sock"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert ironloop.inspect.enable() == path


def test_a_folder_that_is_open_to_others_is_refused(folder):
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="only this user"):
        ironloop.inspect.enable()


def test_disable_takes_the_socket_away(folder):
    path = ironloop.inspect.enable()
    ironloop.inspect.disable()
    ironloop.inspect.disable()
    assert not path.exists()


def test_tasks_are_described_also_while_the_loop_is_blocked(loop):
    path = ironloop.inspect.enable()

    async def child():
        await asyncio.sleep(1000)

    async def parent():
        await asyncio.gather(asyncio.create_task(child(), name="first"), asyncio.create_task(child(), name="second"))

    async def main():
        task = asyncio.create_task(parent(), name="parent")
        await asyncio.sleep(0.01)
        answers = []
        thread = threading.Thread(target=lambda: answers.extend(look(path)))
        thread.start()
        thread.join()  # blocks the loop
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return answers[0]

    answer = loop.run_until_complete(main())
    assert answer["pid"] == os.getpid()
    (described,) = [entry for entry in answer["loops"] if entry["id"] == id(loop)]
    assert described["metrics"]["running"]
    assert described["count"] == 4
    tasks = {task["name"]: task for task in described["tasks"]}
    assert tasks["parent"]["waits_for"] == ["first", "second"]
    assert tasks["first"]["coroutine"].endswith("child")
    assert __file__ in tasks["first"]["where"]
    assert tasks["first"]["waits_in"] == "sleep"


def test_looks_go_on_until_the_client_leaves(loop):
    path = ironloop.inspect.enable()
    loop.run_until_complete(asyncio.sleep(0))
    first, second = look(path, count=2)
    assert second["time"] > first["time"]


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b'{"interval": "x"}\n', b"\xff" * 2000])
def test_nonsense_ends_the_connection_and_harms_nobody(line):
    path = ironloop.inspect.enable()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(line)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1000) == b""
    assert look(path)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_socket_alone():
    path = ironloop.inspect.enable()
    pid = os.fork()
    if pid == 0:
        try:
            ironloop.inspect.disable()
            os._exit(0 if path.exists() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert look(path)


PROGRAM = """
import asyncio, sys, time
async def worker():
    asyncio.get_running_loop().slow_callback_duration = 0.001
    time.sleep(0.002)
    while True:
        await asyncio.sleep(0.001)
async def main():
    task = asyncio.create_task(worker(), name="the worker")
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    task.cancel()
asyncio.run(main())
"""


@pytest.fixture
def process(tmp_path):
    environment = {**os.environ, "IRONLOOP_INSPECT": "1"}
    command = [sys.executable, "-m", "ironloop", "-c", PROGRAM]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    yield process
    output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")
    assert not ironloop.inspect.socket_path(process.pid).exists()


def top(*arguments):
    command = [sys.executable, "-m", "ironloop", "top", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_top_shows_rates_and_tasks_of_a_process(process):
    result = top(process.pid, "--once", "--interval", 0.1)
    assert result.returncode == 0, result.stderr
    rates = {line[:22].strip(): line[22:].strip() for line in result.stdout.splitlines()}
    assert float(rates["callbacks/s"].replace(",", "")) > 0
    assert float(rates["timers/s"].replace(",", "")) > 0
    assert "the worker (worker)  <string>:7 in worker, waits in sleep" in result.stdout
    # On a machine with other work there may be more.
    slow = r"^slow callbacks +\d+\n(  .*\n)*?  0\.\d+ s  task 'the worker' \(worker\)$"
    assert re.search(slow, result.stdout, re.MULTILINE)


def test_what_top_records_it_can_replay(process, tmp_path):
    recorded = tmp_path / "record.jsonl"
    live = top(process.pid, "--once", "--interval", 0.1, "--record", recorded)
    assert len(recorded.read_text().splitlines()) == 2
    replayed = top("--replay", recorded, "--once")
    assert replayed.stdout == live.stdout


def test_the_picture_has_sparklines_and_the_task_tree(process, tmp_path):
    pytest.importorskip("rich")
    recorded = tmp_path / "record.jsonl"
    top(process.pid, "--once", "--interval", 0.1, "--record", recorded)
    result = top("--replay", recorded)
    assert result.returncode == 0, result.stderr
    assert "█" in result.stdout
    assert "the worker (worker)" in result.stdout
    assert " s  task 'the worker' (worker)" in result.stdout


@pytest.mark.parametrize("height", [24, 30, 60])
def test_the_picture_has_room_in_the_terminal(height):
    view, console = pytest.importorskip("ironloop._top_view"), pytest.importorskip("rich.console")
    task = {"coroutine": "wait", "where": "", "waits_in": "", "waits_for": []}
    loop = ironloop.new_event_loop()
    metrics = loop.metrics().as_dict()
    loop.close()
    tasks = [{**task, "name": f"task {number}"} for number in range(40)]
    history = _top.History()
    for now in range(2):
        history.add({"time": now, "loops": [{"id": 1, "metrics": metrics, "tasks": tasks, "count": 40}]})
    terminal = console.Console(width=80, height=height)
    lines = terminal.render_lines(view.picture(history, height))
    assert len(lines) <= max(height, 28)
    assert "task 2 (wait)" in "".join(segment.text for line in lines for segment in line)


def test_a_process_that_does_not_listen_is_explained():
    result = top(1)
    assert result.returncode == 1
    assert "start it with IRONLOOP_INSPECT=1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [[], ["1", "--replay", "x"]])
def test_a_wrong_usage(arguments):
    assert top(*arguments).returncode == 2
