"""Sub-interpreters: the loop's own works beside them; in them, the import says that it cannot be had."""

from __future__ import annotations

from tests.support.programs import run_program

INTERPRETERS = """
import os, sys, threading
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def run(interpreter, code):
    "Run code there; what it raises is raised or returned, by version."
    failed = interpreters.run_string(interpreter, code)
    if failed is not None:
        raise RuntimeError(failed.formatted)

def end():
    "CPython 3.11 may wait for ever for sub-interpreters that end, and 3.12.1 crash after asyncio was imported there."
    sys.stdout.flush()
    os._exit(0)
"""

IMPORT = """
import os
try:
    import ironloop
except ImportError as error:
    os.write({write}, str(error).encode() + b"\\n")
else:
    os.write({write}, b"imported\\n")
"""


def test_importing_in_a_subinterpreter_is_a_clear_import_error():
    """Twice, in two of them, while a loop of the main interpreter lives, which goes on afterwards."""
    done = run_program(
        INTERPRETERS
        + f"""
import asyncio, ironloop
read, write = os.pipe()
loop = ironloop.new_event_loop()
for _ in range(2):
    other = interpreters.create()
    for _ in range(2):
        run(other, {IMPORT!r}.format(write=write))
print(os.read(read, 10_000).decode(), end="")
print(loop.run_until_complete(asyncio.sleep(0, "goes on")))
loop.close()
end()
"""
    )
    assert done.returncode == 0, done.stderr
    *errors, last = done.stdout.splitlines()
    assert last == "goes on"
    assert len(errors) == 4, done.stdout
    assert all("subinterpreter" in error for error in errors), errors


def test_a_subinterpreter_that_imports_first_leaves_the_main_one_its_loop():
    done = run_program(
        INTERPRETERS
        + f"""
read, write = os.pipe()
other = interpreters.create()
run(other, {IMPORT!r}.format(write=write))
print(os.read(read, 10_000).decode(), end="")
try:
    import asyncio, ironloop
except ImportError as error:
    print("import error:", error)
else:
    print(ironloop.run(asyncio.sleep(0, "works")))
end()
"""
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "subinterpreter" in first
    assert second == "works"


def test_a_loop_runs_while_subinterpreters_compute_in_other_threads():
    """Their code runs in between the loop's callbacks, with timers, sockets and a child."""
    done = run_program(
        INTERPRETERS
        + """
import asyncio, ironloop

def compute(interpreter):
    for _ in range(20):
        run(interpreter, "import asyncio, socket; sum(range(20_000))")

async def main():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    for number in range(20):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"%d\\n" % number)
        assert await reader.read() == b"%d\\n" % number
        writer.close()
        await asyncio.sleep(0.001)
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print(await child.communicate(b"hello"), child.returncode, flush=True)
    server.close()

others = [interpreters.create() for _ in range(2)]
threads = [threading.Thread(target=compute, args=(other,)) for other in others]
for thread in threads:
    thread.start()
ironloop.run(main())
for thread in threads:
    thread.join()
end()
"""
    )
    assert done.stdout.splitlines() == ["(b'hello', None) 0"], done.stderr
    assert done.returncode == 0, done.stderr
