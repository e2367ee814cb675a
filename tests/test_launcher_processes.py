"""Processes that a program under `python -m ironloop` starts with multiprocessing are on ironloop, too."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.support.web_servers import environment

PROGRAM = textwrap.dedent("""
    import asyncio, multiprocessing, sys

    async def which():
        return type(asyncio.get_running_loop()).__module__

    def report(queue, generations):
        queue.put(asyncio.run(which()))
        if generations:
            start(queue, generations - 1)

    def start(queue, generations):
        child = multiprocessing.get_context(sys.argv[1]).Process(target=report, args=(queue, generations))
        child.start()
        child.join()
        assert child.exitcode == 0

    if __name__ == "__main__":
        # A manager's queue can be sent to a process by each of the methods.
        with multiprocessing.get_context(sys.argv[1]).Manager() as manager:
            queue = manager.Queue()
            start(queue, 1)
            print(queue.get(), queue.get(), "and", asyncio.run(which()))
""")


def outcome(command, folder):
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=50)
    return done.stdout, done.stderr, done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_and_their_children_are_on_ironloop(tmp_path, method):
    command = [sys.executable, "-m", "ironloop", "program.py", method]
    loop = "ironloop._loop"
    assert outcome(command, tmp_path) == (f"{loop} {loop} and {loop}\n", "", 0)


@pytest.mark.slow
def test_a_child_on_an_interpreter_without_ironloop_runs_as_ever(tmp_path):
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    interpreter.chmod(0o755)
    (tmp_path / "program.py").write_text(
        textwrap.dedent(f"""
            import multiprocessing, os, sys

            def report():
                print("ironloop" in sys.modules, flush=True)

            if __name__ == "__main__":
                multiprocessing.set_executable({str(interpreter)!r})
                child = multiprocessing.get_context("spawn").Process(target=report)
                child.start()
                child.join()
        """)
    )
    command = [sys.executable, "-m", "ironloop", "program.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("False\n", "", 0)


def test_ironloop_install_is_for_its_own_process(tmp_path):
    code = "import ironloop, runpy; ironloop.install(); runpy.run_path('program.py', run_name='__main__')"
    (tmp_path / "program.py").write_text("import sys; print([type(f).__module__ for f in sys.meta_path])")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50
    )
    assert "ironloop" not in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)
