"""Each example does the same under asyncio and under ironloop, and says how to compare the two."""

from __future__ import annotations

import ast
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
LAUNCHERS = {"asyncio": [], "ironloop": ["-m", "ironloop"]}
# What one of them prints on every loop.
EXPECTED = {
    "hello": "hello, Grace",
    "gather": "99 answers, their sum is 328181",
    "queue_workers": "30000 items, each once: True",
    "chat": "Grace hears grüße",
    "pipeline": "child 11 took too long: SIGKILL",
    "crawler": "408 addresses, 52806 bytes",
    "tls_client": "localhost refused: self-signed certificate",
}


def run(name, loop_name):
    command = [sys.executable, "-W", "default", *LAUNCHERS[loop_name], EXAMPLES / f"{name}.py"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=50)


def of_any_loop(output):
    """The output without the name of the loop, and without times."""
    return re.sub(r"^running on (asyncio|ironloop)$|[\d.]+ s$", "...", output, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_prints_the_same_on_both_loops(name):
    if name == "tls_client" and shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    done = {loop_name: run(name, loop_name) for loop_name in LAUNCHERS}
    assert (done["ironloop"].returncode, done["ironloop"].stderr) == (0, "")
    assert EXPECTED[name] in done["ironloop"].stdout.splitlines()
    assert of_any_loop(done["ironloop"].stdout) == of_any_loop(done["asyncio"].stdout)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_to_run_and_to_compare_it(name):
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8")))
    for command in ("python", "python -m ironloop", "python -m ironloop compare"):
        assert f"{command} examples/{name}.py" in docstring


@pytest.mark.slow
@pytest.mark.parametrize("loop_name", LAUNCHERS)
def test_the_chat_serves_a_browser_until_it_is_interrupted(loop_name):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [sys.executable, *LAUNCHERS[loop_name], EXAMPLES / "chat.py", "--port", str(port)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as chat:
        try:
            address = chat.stdout.readline().strip()
            assert address == f"http://127.0.0.1:{port}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.read() == (EXAMPLES / "chat.html").read_bytes()
            chat.send_signal(2)
            assert chat.communicate(timeout=30) == ("", "")
        finally:
            chat.kill()
    assert chat.returncode == 0
