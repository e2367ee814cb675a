"""`python -m ironloop` runs a program as `python` does: every case is compared with `python` itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile

import ironloop
import pytest


def start(arguments, folder, **options):
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(ironloop.__file__)))
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, **options
    )


def both(arguments, folder, **options):
    """(stdout, stderr, exit status) of `python ...` and of `python -m ironloop ...`."""
    results = []
    for prefix in ([], ["-m", "ironloop"]):
        done = start([*prefix, *arguments], folder, timeout=40, **options)
        clean = [re.sub(r"0x[0-9a-f]+", "0x", text) for text in (done.stdout, done.stderr)]
        results.append((*clean, done.returncode))
    return results


PROGRAMS = {
    "names": """
        import sys
        print(sys.argv, __name__, __file__, sys.path[0], __spec__, __package__, __doc__, __loader__)
        print(sorted(globals()), __builtins__)
        print(sys.modules["__main__"].__dict__ is globals())
    """,
    "docstring": '"""A docstring."""\nprint(__doc__, __name__)',
    "raises": "def f():\n    1 / 0\nf()",
    "chained": "try:\n    {}[1]\nexcept KeyError:\n    raise ValueError('x')",
    "group": "import asyncio\nasync def main():\n    raise LookupError('in a task')\nasyncio.run(main())",
    "exit": "import sys\nsys.exit()",
    "exit_3": "import sys\nsys.exit(3)",
    "exit_text": "import sys\nsys.exit('a message')",
    "exit_none": "raise SystemExit(None)",
    "exit_object": "raise SystemExit([1, 2])",
    "interrupt": "raise KeyboardInterrupt",
    "syntax": "x = (\n",
    "indent": "if True:\nx = 1\n",
    "null": "x = 1\0\n",
    "encoding": "# -*- coding: latin-1 -*-\nprint('caf\\xe9')",
    "bad_encoding": "# -*- coding: nonsense -*-\n",
    "hook": "import sys, traceback\n"
    "sys.excepthook = lambda t, v, tb: print('HOOK', t, [f.name for f in traceback.extract_tb(tb)])\n1 / 0",
    "atexit": "import atexit\natexit.register(print, 'bye')\nprint('hello')",
    "future": "from __future__ import annotations\nx: nonsense = 1\nprint(__annotations__)",
    "pickle": "import pickle\nclass C: pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C)",
    "inspect": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f))",
    "warns": "import warnings\nwarnings.warn('careful')\nwarnings.warn('old', DeprecationWarning)",
    "asyncio": """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            return 5
        print(asyncio.run(main()))
        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(main()))
        loop.close()
    """,
    "multiprocessing": """
        import multiprocessing
        def square(x):
            return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_as_under_python(tmp_path, name):
    (tmp_path / "program.py").write_bytes(textwrap.dedent(PROGRAMS[name]).encode("latin-1"))
    python, ours = both(["program.py", "one", "--two", "-3"], tmp_path)
    assert ours == python


@pytest.mark.parametrize("path", ["./program.py", "sub/../program.py", "sub/inner.py", "link.py"])
def test_paths_are_shown_as_under_python(tmp_path, path):
    (tmp_path / "sub").mkdir()
    text = "import sys\nprint(__file__, sys.path[0], sys.argv)\n1 / 0\n"
    (tmp_path / "program.py").write_text(text)
    (tmp_path / "sub" / "inner.py").write_text(text)
    (tmp_path / "link.py").symlink_to(tmp_path / "sub" / "inner.py")
    python, ours = both([path], tmp_path)
    assert ours == python


def test_modules_folders_and_zip_files_run_as_under_python(tmp_path):
    text = "import sys\nprint(__name__, __file__, sys.argv, sys.path[0], __spec__ and __spec__.name)\n1 / 0\n"
    (tmp_path / "module.py").write_text(text)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(text)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", text)
    for arguments in (["-m", "module", "x"], ["-m", "package", "-m", "y"], ["package", "z"], ["archive.zip", "z"]):
        python, ours = both(arguments, tmp_path)
        assert ours == python


def test_what_cannot_be_run_fails_as_under_python(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "secret.py").mkdir()
    for arguments in (["missing.py"], ["empty"], ["secret.py"], ["-m", "missing.module"], ["-m", "os.path.nothing"]):
        python, ours = both(arguments, tmp_path)
        assert ours == python


def test_code_from_the_command_line_and_from_standard_input(tmp_path):
    code = "import sys; print(sys.argv, sys.path[0] == '', __name__); sys.exit(4)"
    python, ours = both(["-c", code, "x", "y"], tmp_path)
    assert ours == python
    python, ours = both(["-", "x"], tmp_path, input=code)
    assert ours == python


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio\nasync def main():\n    print(type(asyncio.get_running_loop()))\nasyncio.run(main())",
        "import asyncio\nloop = asyncio.new_event_loop()\nprint(type(loop))\nloop.close()",
        "import asyncio, sys\nif sys.version_info >= (3, 11):\n    with asyncio.Runner() as runner:\n"
        "        print(type(runner.get_loop()))\nelse:\n    print(type(asyncio.get_event_loop()))",
    ],
)
def test_the_program_gets_our_loop(tmp_path, code):
    (tmp_path / "program.py").write_text(code)
    done = start(["-m", "ironloop", "program.py"], tmp_path)
    assert done.stdout.strip() == "<class 'ironloop._loop.Loop'>", done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_a_program_as_under_python(tmp_path):
    (tmp_path / "program.py").write_text(
        "import asyncio\nasync def main():\n    print('ready', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(ironloop.__file__)))
    statuses = []
    for prefix in ([], ["-m", "ironloop"]):
        process = subprocess.Popen(
            [sys.executable, *prefix, "program.py"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        statuses.append((process.returncode, stderr.strip().splitlines()[-1]))
    assert statuses[0] == statuses[1]
    assert statuses[0][0] == -signal.SIGINT


def test_help_and_version(tmp_path):
    done = start(["-m", "ironloop", "--help"], tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m ironloop")
    done = start(["-m", "ironloop", "--version"], tmp_path)
    assert done.stdout == f"ironloop {ironloop.__version__}\n"
    for arguments in ([], ["-m"], ["--nonsense"]):
        done = start(["-m", "ironloop", *arguments], tmp_path)
        assert done.returncode == 2
        assert "usage:" in done.stderr
