"""Subprocesses: the order of a child's events, its input and output, many of them.

Ends of children are in test_exit.py, Popen's options in test_options.py.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from tests.support.children import ChildRecorder, finished
from tests.support.pipes import MESSAGE
from tests.support.programs import NEW_LOOP, run_program


def test_a_childs_events_come_in_order(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(ChildRecorder, "sh", "-c", "cat; echo complaint >&2; exit 7")
        assert protocol.events == ["made"]
        assert protocol.transport is transport
        assert transport.get_returncode() is None
        transport.get_pipe_transport(0).write(b"to the child")
        assert await protocol.received(1, 12) == b"to the child"
        transport.get_pipe_transport(0).close()
        assert await protocol.pipe_lost[0] is None
        assert await protocol.pipe_lost[1] is None
        assert await protocol.pipe_lost[2] is None
        assert await protocol.exited == 7
        assert await protocol.lost is None
        assert transport.get_returncode() == 7
        assert bytes(protocol.data[2]) == b"complaint\n"
        events = protocol.events
        assert events[0] == "made"
        assert events[-1] == "lost"
        assert len(events) == len(set(events)) == 8
        for fd in (1, 2):
            assert events.index(("data", fd)) < events.index(("lost", fd))
        transport.close()

    run(main)


def test_a_shell_runs_a_command_in_text_or_bytes(run, loop):
    async def main():
        for command in ("echo $((6 * 7)) | cat", b"echo 42"):
            _, protocol = await loop.subprocess_shell(ChildRecorder, command)
            assert await finished(protocol) == 0
            assert bytes(protocol.data[1]) == b"42\n"
            process = await asyncio.create_subprocess_shell(command, stdout=PIPE)
            assert await process.communicate() == (b"42\n", None)

    run(main)


def test_a_transport_is_one_of_asyncios_and_knows_its_child(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(ChildRecorder, "cat", stderr=DEVNULL)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_protocol() is protocol
        popen = transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        assert popen.pid == transport.get_pid()
        assert transport.get_extra_info("colour", "green") == "green"
        stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
        assert isinstance(stdin, asyncio.WriteTransport)
        assert isinstance(stdout, asyncio.ReadTransport)
        assert stdin.get_extra_info("pipe") is popen.stdin
        assert stdout.get_extra_info("pipe") is popen.stdout
        assert transport.get_pipe_transport(2) is None
        assert transport.get_pipe_transport(5) is None
        assert f"pid={transport.get_pid()} running" in repr(transport)
        assert not transport.is_closing()
        stdin.close()
        await protocol.lost
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert "returncode=0" in repr(transport)
        assert transport.get_extra_info("subprocess") is popen
        assert popen.returncode == 0

    run(main)


def test_another_protocol_can_take_over(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(ChildRecorder, "cat")
        other = ChildRecorder()
        other.transport = transport
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        transport.get_pipe_transport(0).write(b"hello")
        assert await other.received(1, 5) == b"hello"
        transport.get_pipe_transport(0).close()
        assert await finished(other) == 0
        assert protocol.events == ["made"]

    run(main)


def test_an_unclosed_transport_warns(run, loop):
    async def main():
        _, protocol = await loop.subprocess_exec(ChildRecorder, "true")
        await protocol.lost

    def run_and_forget():
        run(main)
        # Before Python 3.12 CPython's loop has a thread per child, which may hold the transport for a moment more.
        while not caught:
            gc.collect()
            time.sleep(0.001)

    with pytest.warns(ResourceWarning, match="unclosed transport") as caught:
        run_and_forget()


def test_two_megabytes_pass_through_cat(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        data = MESSAGE * 7
        assert await process.communicate(data) == (data, b"")
        assert process.returncode == 0

    run(main)


def test_communicate_without_input_reads_both_outputs(run):
    async def main():
        process = await asyncio.create_subprocess_shell("echo out; echo err >&2; exit 3", stdout=PIPE, stderr=PIPE)
        assert await process.communicate() == (b"out\n", b"err\n")
        assert process.returncode == await process.wait() == 3
        process = await asyncio.create_subprocess_exec("true")
        assert await process.communicate() == (None, None)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"") == (b"", None)

    run(main)


def test_a_child_that_does_not_read_its_input_breaks_nothing(run):
    async def main():
        for command in ("exit 5", "exec 0<&-; echo deaf; exit 5"):
            process = await asyncio.create_subprocess_shell(command, stdin=PIPE, stdout=PIPE)
            await process.communicate(MESSAGE)
            assert process.returncode == 5

    run(main)


def test_a_conversation_line_by_line(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        for number in range(100):
            line = b"line %d\n" % number
            process.stdin.write(line)
            await process.stdin.drain()
            assert await process.stdout.readline() == line
        assert process.returncode is None
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0
        assert process.stdin.is_closing()

    run(main)


def test_drain_tells_that_the_child_stopped_reading(run):
    async def main():
        process = await asyncio.create_subprocess_shell("exec 0<&-; echo deaf; exec sleep 100", stdin=PIPE, stdout=PIPE)
        assert await process.stdout.readline() == b"deaf\n"
        process.stdin.write(MESSAGE)
        with pytest.raises(ConnectionError):
            await process.stdin.drain()
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    run(main)


def test_a_child_that_is_not_read_blocks_until_it_is(run):
    async def main():
        process = await asyncio.create_subprocess_shell("head -c 1000000 /dev/zero", stdout=PIPE, limit=1000)
        assert len(await process.stdout.readexactly(10)) == 10
        assert process.returncode is None
        assert len(await process.stdout.read()) == 1_000_000 - 10
        assert await process.wait() == 0

    run(main)


def test_writing_to_a_child_has_flow_control(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(ChildRecorder, "cat")
        stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
        stdout.pause_reading()
        while "pause" not in protocol.events:
            stdin.write(MESSAGE)
        await asyncio.sleep(0)
        assert protocol.events == ["made", "pause"]
        stdout.resume_reading()
        stdin.close()
        assert await finished(protocol) == 0
        assert "resume" in protocol.events
        assert bytes(protocol.data[1]) == MESSAGE * (len(protocol.data[1]) // len(MESSAGE))

    run(main)


def failing(method):
    """A recorder of which one method raises."""

    class Failing(ChildRecorder):
        pass

    def fail(self, *arguments):
        getattr(ChildRecorder, method)(self, *arguments)
        raise LookupError(method)

    setattr(Failing, method, fail)
    return Failing


@pytest.mark.parametrize(
    "method", ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"]
)
def test_what_a_callback_raises_is_reported_and_the_rest_comes(run, loop, reports, method):
    async def main():
        _, protocol = await loop.subprocess_exec(failing(method), "sh", "-c", "echo hello; exit 3")
        assert await finished(protocol) == 3
        await asyncio.sleep(0)
        assert protocol.events[0] == "made"
        assert protocol.events[-1] == "lost"
        assert len(protocol.events) == 7
        assert len(reports) == (3 if method == "pipe_connection_lost" else 1)
        for report in reports:
            assert report["message"].startswith("Exception in callback")
            assert isinstance(report["exception"], LookupError)

    run(main)


async def numbered_child(number):
    process = await asyncio.create_subprocess_shell(
        f"echo out {number}; echo err {number} >&2; exit {number}", stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    outputs = await process.communicate()
    assert (process.returncode, *outputs) == (number % 256, b"out %d\n" % number, b"err %d\n" % number)


@pytest.mark.slow
def test_a_hundred_children_at_once_lose_nothing(run):
    async def main():
        await asyncio.gather(*map(numbered_child, range(100)))

    run(main)


@pytest.mark.slow
def test_a_thousand_children_in_a_row_lose_nothing(run):
    async def main():
        for number in range(1000):
            await numbered_child(number)

    run(main)


@pytest.mark.slow
def test_forty_shells_that_write_a_megabyte_each_all_complete(run):
    async def main():
        async def megabyte():
            process = await asyncio.create_subprocess_shell("head -c 1000000 /dev/zero; echo done", stdout=PIPE)
            output, _ = await process.communicate()
            assert len(output) == 1_000_005
            assert output.endswith(b"\0done\n")
            assert process.returncode == 0

        await asyncio.gather(*(megabyte() for _ in range(40)))

    run(main)


def test_loops_in_other_threads_have_children(loop_factory):
    codes = []

    def other(first):
        loop = loop_factory()
        try:
            for number in range(first, first + 3):
                loop.run_until_complete(numbered_child(number))
                codes.append(number)
        finally:
            loop.close()

    threads = [threading.Thread(target=other, args=(first,)) for first in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [10, 11, 12, 20, 21, 22, 30, 31, 32]


@pytest.mark.slow
def test_children_start_while_subinterpreters_exist(loop_name):
    code = f"""
        import asyncio
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        others = [interpreters.create() for _ in range(2)]
        async def main():
            for _ in range(3):
                process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
                print(await process.communicate(b"hello"), process.returncode)
        loop = {NEW_LOOP[loop_name]}
        loop.run_until_complete(main())
        loop.close()
        for other in others:
            interpreters.destroy(other)
    """
    done = run_program(code, timeout=30)
    assert done.stdout.splitlines() == ["(b'hello', None) 0"] * 3, done.stderr
    assert done.returncode == 0
