"""Starting a subprocess: where its standard streams lead, Popen's options, what is refused, what is inherited."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pathlib
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import pytest

from tests.support.children import PYTHON, ChildRecorder, children, finished
from tests.support.leaks import open_descriptors

# With a preexec_fn Popen forks, and the process that runs the tests may have a thread.
MAY_FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root may change the user")
OPEN_DESCRIPTORS = (*PYTHON, "import os; print([fd for fd in range(1000) if os.path.exists(f'/proc/self/fd/{fd}')])")


async def output_of(*command, **options):
    """What a command wrote to its standard output; it must succeed."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


def test_input_from_and_output_to_files(run, tmp_path):
    async def main():
        (tmp_path / "in").write_bytes(b"from a file")
        with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
            process = await asyncio.create_subprocess_exec("cat", stdin=source, stdout=sink)
            assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
            assert await process.wait() == 0
            assert not source.closed
            source.seek(0)
            process = await asyncio.create_subprocess_exec("cat", stdin=source.fileno(), stdout=sink.fileno())
            assert await process.wait() == 0
        assert (tmp_path / "out").read_bytes() == b"from a file" * 2

    run(main)


def test_a_socket_may_be_the_input(run):
    async def main():
        left, right = socket.socketpair()
        with left, right:
            process = await asyncio.create_subprocess_exec("cat", stdin=right, stdout=PIPE)
            right.close()
            left.sendall(b"over a socket")
            left.close()
            assert await process.communicate() == (b"over a socket", None)

    run(main)


def test_the_null_device_is_empty_and_swallows(run):
    async def main():
        process = await asyncio.create_subprocess_shell("cat; echo x", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
        assert await process.communicate() == (None, None)
        assert process.returncode == 0

    run(main)


def test_errors_may_go_where_the_output_goes(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_shell(
            ChildRecorder, "echo 1; echo 2 >&2; echo 3; echo 4 >&2", stderr=STDOUT
        )
        assert transport.get_pipe_transport(2) is None
        assert await finished(protocol) == 0
        assert bytes(protocol.data[1]) == b"1\n2\n3\n4\n"
        assert ("lost", 2) not in protocol.events

    run(main)


def test_streams_that_are_not_given_are_ours(run, capfd):
    async def main():
        process = await asyncio.create_subprocess_shell("echo out; echo err >&2")
        assert await process.communicate() == (None, None)

    run(main)
    assert capfd.readouterr() == ("out\n", "err\n")


def test_the_child_can_open_its_streams_by_name(run):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert await process.communicate(b"by name") == (b"by name", b"err\n")
        assert process.returncode == 0

    run(main)


def test_the_childs_ends_of_the_pipes_block(run):
    async def main():
        code = "import os; print([os.get_blocking(fd) for fd in range(3)])"
        output = await output_of(*PYTHON, code, stdin=PIPE, stderr=PIPE)
        assert output == b"[True, True, True]\n"

    run(main)


@pytest.mark.parametrize("options", [{}, {"restore_signals": False}], ids=["restored", "kept"])
def test_the_childs_signals_are_as_popen_sets_them(run, options):
    """Mask and dispositions, see proc(5), /proc/pid/status."""
    command = ("grep", "-E", "^Sig(Blk|Ign|Cgt):", "/proc/self/status")

    async def main():
        with subprocess.Popen(command, stdout=PIPE, **options) as popen:
            expected = popen.stdout.read()
        assert await output_of(*command, **options) == expected

    run(main)


REFUSED = [
    ({"universal_newlines": True}, "universal_newlines must be False"),
    ({"bufsize": 1}, "bufsize must be 0"),
    ({"text": True}, "text must be False"),
    ({"encoding": "utf-8"}, "encoding must be None"),
    ({"errors": "strict"}, "errors must be None"),
]


@pytest.mark.parametrize(("options", "text"), REFUSED, ids=[next(iter(options)) for options, _ in REFUSED])
def test_options_that_asyncio_does_not_have_are_refused(run, loop, options, text):
    async def main():
        for start in (loop.subprocess_exec, loop.subprocess_shell):
            with pytest.raises(ValueError) as caught:
                await start(pytest.fail, "true", **options)
            assert str(caught.value) == text
        for create in (asyncio.create_subprocess_exec, asyncio.create_subprocess_shell):
            with pytest.raises(ValueError) as caught:
                await create("true", **options)
            assert str(caught.value) == text

    run(main)


def test_wrong_arguments_are_refused(run, loop):
    async def main():
        with pytest.raises(ValueError, match=r"^shell must be False$"):
            await loop.subprocess_exec(pytest.fail, "true", shell=True)
        with pytest.raises(ValueError, match=r"^shell must be True$"):
            await loop.subprocess_shell(pytest.fail, "true", shell=False)
        for bad in (5, None, ["true"], pathlib.Path("true")):
            with pytest.raises(ValueError, match=r"^cmd must be a string$"):
                await loop.subprocess_shell(pytest.fail, bad)
        for bad in (5, None, object()):
            with pytest.raises(TypeError):
                await loop.subprocess_exec(ChildRecorder, bad)
            with pytest.raises(TypeError):
                await loop.subprocess_exec(ChildRecorder, "echo", bad)
        with pytest.raises(TypeError):
            await loop.subprocess_exec(ChildRecorder, "true", colour="green")
        with pytest.raises(ValueError, match="startupinfo is only supported on Windows"):
            await loop.subprocess_exec(ChildRecorder, "true", startupinfo=object())
        with pytest.raises(AttributeError):
            await loop.subprocess_exec(ChildRecorder, "true", stdin="text")

    run(main)


def test_programs_and_arguments_are_text_bytes_or_paths(run):
    async def main():
        echo = pathlib.Path("/bin/echo")
        for program in ("echo", b"echo", echo, str(echo)):
            output = await output_of(program, "text", b"bytes", pathlib.Path("/path"), "")
            assert output == b"text bytes /path \n"
        assert await output_of("printf", "%s", "\N{SNOWMAN}\udcff") == os.fsencode("\N{SNOWMAN}\udcff")

    run(main)


def test_the_executable_may_differ_from_the_name(run):
    async def main():
        assert await output_of("another name", "-c", "echo $0", executable="/bin/sh") == b"another name\n"
        process = await asyncio.create_subprocess_shell("echo $0", executable=PYTHON[0], stdout=PIPE, stderr=DEVNULL)
        await process.communicate()
        assert process.returncode != 0  # Python does not take `echo $0` for a program

    run(main)


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path])
def test_the_working_directory_can_be_chosen(run, tmp_path, kind):
    async def main():
        assert await output_of("pwd", cwd=kind(tmp_path)) == os.fsencode(tmp_path.resolve()) + b"\n"
        (tmp_path / "program").write_text("#!/bin/sh\necho here\n")
        (tmp_path / "program").chmod(0o755)
        assert await output_of("./program", cwd=kind(tmp_path)) == b"here\n"

    run(main)


def test_the_environment_can_be_chosen(run, monkeypatch):
    monkeypatch.setenv("IRONLOOP_TEST", "inherited")

    async def main():
        assert await output_of("sh", "-c", "echo $IRONLOOP_TEST") == b"inherited\n"
        assert await output_of("env", env={}) == b""
        assert await output_of("env", env={"A": "1", b"B": b"\xff"}) == b"A=1\nB=\xff\n"

    run(main)


def test_the_child_has_no_descriptors_but_its_own(run):
    async def main():
        read, write = os.pipe()
        os.set_inheritable(read, True)
        try:
            other = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            for options in ({}, {"stdin": PIPE, "stderr": PIPE}, {"stdin": DEVNULL, "stderr": STDOUT}):
                assert await output_of(*OPEN_DESCRIPTORS, **options) == b"[0, 1, 2]\n"
            await other.communicate(b"")
        finally:
            os.close(read)
            os.close(write)

    run(main)


def test_descriptors_can_be_passed(run):
    async def main():
        read, write = os.pipe()
        try:
            output = await output_of(*OPEN_DESCRIPTORS, pass_fds=(write,))
            assert output == b"%r\n" % [0, 1, 2, write]
            await output_of("sh", "-c", f"echo passed >/proc/self/fd/{write}", pass_fds=[write])
            assert os.read(read, 100) == b"passed\n"
            assert not os.get_inheritable(write)
        finally:
            os.close(read)
            os.close(write)

    run(main)


def test_without_close_fds_the_child_has_what_is_inheritable_and_no_more(run):
    async def main():
        read, write = os.pipe()
        os.set_inheritable(read, True)
        try:
            other = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            expected = {0, 1, 2} | {fd for fd in open_descriptors() if os.get_inheritable(fd)}
            assert {read} <= expected
            assert write not in expected
            output = await output_of(*OPEN_DESCRIPTORS, close_fds=False, stdin=PIPE, stderr=PIPE)
            assert output == b"%r\n" % sorted(expected)
            await other.communicate(b"")
        finally:
            os.close(read)
            os.close(write)

    run(main)


async def session_and_group(**options):
    """(pid, process group, session) of a child, see proc(5), /proc/pid/stat."""
    output = await output_of("cat", "/proc/self/stat", **options)
    pid, _name, _state, _parent, group, session, *_ = output.split()
    return int(pid), int(group), int(session)


def test_the_child_may_lead_a_session(run):
    async def main():
        _, group, session = await session_and_group()
        assert (group, session) == (os.getpgrp(), os.getsid(0))
        pid, group, session = await session_and_group(start_new_session=True)
        assert pid == group == session

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_the_child_may_lead_a_process_group(run):
    async def main():
        pid, group, session = await session_and_group(process_group=0)
        assert pid == group
        assert session == os.getsid(0)

    run(main)


def test_the_umask_can_be_chosen(run):
    async def main():
        assert int(await output_of("sh", "-c", "umask", umask=0o031), 8) == 0o031

    run(main)


@AS_ROOT
@pytest.mark.parametrize(
    ("options", "flags", "expected"),
    [
        ({"user": 12345}, "-u", b"12345\n"),
        ({"user": "root"}, "-u", b"0\n"),
        ({"group": 12346}, "-g", b"12346\n"),
        ({"extra_groups": [12347, 12348]}, "-G", b"0 12347 12348\n"),
        ({"user": 12345, "group": 12346, "extra_groups": []}, "-G", b"12346\n"),
    ],
    ids=["user", "user by name", "group", "extra groups", "all"],
)
def test_user_and_groups_can_be_chosen(run, options, flags, expected):
    async def main():
        assert await output_of("id", flags, cwd="/", **options) == expected

    run(main)


def test_the_size_of_the_pipes_can_be_chosen(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_exec(ChildRecorder, "cat", pipesize=4096)
        for fd in range(3):
            pipe = transport.get_pipe_transport(fd).get_extra_info("pipe")
            assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) == 4096
        transport.get_pipe_transport(0).close()
        assert await finished(protocol) == 0

    run(main)


@MAY_FORK
def test_a_function_of_ours_may_run_in_the_child(run):
    async def main():
        def prepare():
            os.nice(3)
            os.write(1, b"prepared\n")

        output = await output_of("nice", preexec_fn=prepare)
        assert output == b"prepared\n%d\n" % min(os.nice(0) + 3, 19)

    run(main)


def fail():
    raise LookupError("in the child")


FAILURES = {
    "missing file": (FileNotFoundError, ("/no/such/program",), {}),
    "missing in the path": (FileNotFoundError, ("no-such-program",), {}),
    "a directory": (PermissionError, ("/",), {}),
    "no program": (OSError, ("/etc/passwd",), {}),
    "missing directory": (FileNotFoundError, ("true",), {"cwd": "/no/such/directory"}),
    "directory is a file": (NotADirectoryError, ("true",), {"cwd": "/etc/passwd"}),
    "preexec_fn": (subprocess.SubprocessError, ("true",), {"preexec_fn": fail}),
    "NUL in an argument": (ValueError, ("true", "a\0b"), {}),
    "bad name in the environment": (ValueError, ("true",), {"env": {"A=B": "1"}}),
    "bad descriptor": (ValueError, ("true",), {"pass_fds": (-1,)}),
    "no such group": ((KeyError, ValueError), ("true",), {"group": "no such group"}),
}


@MAY_FORK
@pytest.mark.parametrize(("error", "command", "options"), FAILURES.values(), ids=FAILURES.keys())
def test_a_start_that_fails_leaves_nothing(run, loop, reports, error, command, options):
    if "group" in options and sys.version_info < (3, 11, 4):
        pytest.skip("Popen itself leaves the pipes open before 3.11.4")

    async def main():
        protocol = ChildRecorder()
        await output_of("true")
        descriptors, before = open_descriptors(), children()
        for _ in range(10):
            with pytest.raises(error):
                await loop.subprocess_exec(lambda: protocol, *command, **options)
            with pytest.raises(error):
                await asyncio.create_subprocess_exec(*command, stdin=PIPE, **options)
        assert open_descriptors() == descriptors
        assert children() <= before
        await asyncio.sleep(0)
        assert protocol.events == []
        assert await output_of("echo", "still works") == b"still works\n"

    run(main)
    assert reports == []


def test_the_error_of_a_failed_start_names_the_file(run, loop):
    async def main():
        for _ in range(60):
            with pytest.raises(FileNotFoundError) as caught:
                await loop.subprocess_exec(ChildRecorder, "/no/such/program", "argument")
            assert caught.value.filename == "/no/such/program"
        with pytest.raises(FileNotFoundError) as caught:
            await loop.subprocess_exec(ChildRecorder, "true", cwd="/no/such/directory")
        assert caught.value.filename == "/no/such/directory"

    run(main)


def test_a_shell_that_finds_no_program_exits_with_127(run):
    async def main():
        process = await asyncio.create_subprocess_shell("/no/such/program", stderr=PIPE)
        _, errors = await process.communicate()
        assert process.returncode == 127
        assert b"not found" in errors or b"No such file" in errors

    run(main)


def test_a_factory_that_raises_starts_nothing(run, loop):
    def factory():
        raise LookupError("no protocol today")

    async def main():
        before = children()
        for start in (loop.subprocess_exec, loop.subprocess_shell):
            with pytest.raises(LookupError):
                await start(factory, "true")
        assert children() <= before

    run(main)


def test_a_popen_in_the_place_of_the_standard_one_is_used(run, monkeypatch):
    """As test suites and instrumentation put it there."""
    started = []

    class Recorder(subprocess.Popen):
        def __init__(self, args, **options):
            started.append(args)
            super().__init__(args, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorder)

    async def main():
        child = await asyncio.create_subprocess_exec("true")
        assert await child.wait() == 0
        assert type(child._transport.get_extra_info("subprocess")) is Recorder

    run(main)
    assert started == [("true",)]


def test_the_child_is_a_popen(run):
    async def main():
        child = await asyncio.create_subprocess_exec("true")
        process = child._transport.get_extra_info("subprocess")
        assert isinstance(process, subprocess.Popen)
        assert await child.wait() == 0
        assert process.returncode == 0
        assert repr(process) == "<Popen: returncode: 0 args: ('true',)>"

    run(main)
