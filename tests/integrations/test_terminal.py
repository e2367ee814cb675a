"""Terminal programs on a real terminal: prompt_toolkit and Textual read it by `add_reader`; on a pty, and in tmux."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.peers.programs import program
from tests.support.page import page
from tests.support.web_servers import environment

NEEDS = ("prompt_toolkit", "textual")
CONTROLS = re.compile(r"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|\].*?(?:\x07|\x1b\\)|[PX^_].*?\x1b\\|.)", re.DOTALL)


class Terminal:
    """A program whose standard streams are a pseudo-terminal of 80 by 24."""

    def __init__(self, command, folder):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        # A session of its own whose terminal this is, so that Ctrl-C and a change of size reach it as signals.
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(TERM="xterm-256color"), stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.shown = ""

    def until(self, text):
        """Read what it shows until that is there, without controls; answer where it asks for the cursor."""
        seen = ""
        while text not in CONTROLS.sub("", seen):
            assert select.select([self.master], [], [], 50)[0], (text, seen)
            piece = os.read(self.master, 65536).decode(errors="replace")
            if "\x1b[6n" in piece:
                self.type("\x1b[1;1R")
            seen += piece
        self.shown += seen

    def type(self, text):
        os.write(self.master, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ended(self):
        """Wait for its end, reading on so that it is not held up; its exit status."""
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.01)[0]:
                self.shown += os.read(self.master, 65536).decode(errors="replace")
        return self.process.returncode

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(tmp_path):
    """`terminal(*arguments)` starts Python on a terminal, in a folder with the programs of the page."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            page()["Terminal programs: prompt_toolkit, Textual"].write(tmp_path)
            return stack.enter_context(contextlib.closing(Terminal([sys.executable, *arguments], tmp_path)))

        yield start


def test_prompt_toolkit_reads_keys_and_restores_the_terminal(terminal):
    prompt = terminal("prompt.py")
    prompt.until("your name?")
    prompt.type("Adda\x1b[D\x7f\x05!")  # back over one letter and one deleted; Ctrl-E; an exclamation mark
    prompt.until("!")
    prompt.type("\r")
    prompt.until("hello, Ada!, from ironloop._loop")
    assert prompt.ended() == 0
    assert termios.tcgetattr(prompt.slave) == prompt.before


def test_prompt_toolkit_is_interrupted_by_ctrl_c(terminal):
    prompt = terminal("prompt.py")
    prompt.until("your name?")
    prompt.type("\x03")
    assert prompt.ended() == -signal.SIGINT
    assert "KeyboardInterrupt" in prompt.shown
    assert termios.tcgetattr(prompt.slave) == prompt.before


def test_a_prompt_that_knows_nothing_of_ironloop_runs_on_it_under_the_launcher(terminal):
    code = """
import asyncio
from prompt_toolkit import prompt
print("typed", prompt("now> ", bottom_toolbar=lambda: f"on {type(asyncio.get_running_loop()).__module__}"))
"""
    started = terminal("-m", "ironloop", "-c", code)
    started.until("on ironloop._loop")
    started.type("something\r")
    started.until("typed something")
    assert started.ended() == 0


def test_textual_shows_reads_resizes_and_ends(terminal):
    application = terminal("textual_app.py")
    application.until("your name?")
    application.type("Ada\r")
    application.until("hello, Ada, from ironloop._loop")
    application.resize(30, 100)
    application.until("hello, Ada, from ironloop._loop")  # drawn again
    application.type("\x11")  # Ctrl-Q
    assert application.ended() == 0
    assert termios.tcgetattr(application.slave) == application.before


def test_a_prompt_works_in_tmux(tmp_path):
    tmux = program("tmux")
    page()["Terminal programs: prompt_toolkit, Textual"].write(tmp_path)
    server = [tmux, "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def run(*arguments):
        done = subprocess.run([*server, *arguments], env=environment(), capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def until(text):
        while text not in run("capture-pane", "-p", "-t", "test"):
            time.sleep(0.02)

    command = f"cd {tmp_path}; {sys.executable} prompt.py; echo status $?; sleep 50"
    run("new-session", "-d", "-s", "test", "-x", "80", "-y", "24", "sh", "-c", command)
    try:
        until("your name?")
        run("send-keys", "-t", "test", "Grace", "Enter")
        until("hello, Grace, from ironloop._loop")
        until("status 0")
    finally:
        run("kill-server")
