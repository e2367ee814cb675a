"""Checks wheels that are to be released: size, names, dependencies, and that each does what it should when installed.

    python packaging/check_wheels.py dist/*.whl

A wheel for the Python and machine that run this is installed into a fresh environment and runs a program; the others
are only looked at, and the table says so. Exit status 1: something is not as it should be.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from email.parser import Parser

LIMIT_BYTES = 2_000_000
PROGRAM = """
import asyncio, ironloop, sys
async def main():
    assert type(asyncio.get_running_loop()) is ironloop.Loop
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=-1)
    return (await done.communicate())[0]
assert ironloop.run(main()).strip() == b"42"
"""


def faults(wheel: pathlib.Path) -> list[str]:
    """What is wrong with the file, without installing it."""
    found = []
    if wheel.stat().st_size > LIMIT_BYTES:
        found.append(f"{wheel.stat().st_size} bytes, more than {LIMIT_BYTES}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    if required:
        found.append(f"needs {', '.join(required)}")
    expected = ("ironloop/py.typed", "ironloop/_native.pyi", "ironloop/include/ironloop.h")
    found += [f"{name} is missing" for name in expected if name not in names]
    if sum(name.startswith("ironloop/_native.") and name.endswith(".so") for name in names) != 1:
        found.append("has not exactly one native module")
    if not any(name.endswith("LICENSE-MIT") for name in names):
        found.append("has no licence")
    foreign = [name for name in names if not name.startswith(("ironloop/", "ironloop-"))]
    return found + [f"contains {name}" for name in foreign]


def fits(wheel: pathlib.Path) -> bool:
    """Whether it is for this Python on this machine, by its name."""
    _, _, python, abi, platform = wheel.stem.split("-")[:5]
    machine = sysconfig.get_platform().rpartition("-")[2]
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    here = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    libc = "musllinux" if "musl" in suffix else "linux"
    kind = "musllinux" if "musllinux" in platform else "linux"
    return (python, abi, kind) == (here, here + free, libc) and platform.endswith(machine)


def run(wheel: pathlib.Path) -> str:
    """Installs it into a fresh environment and runs a program; what went wrong, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/bin/python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for command in (
            [python, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check", str(wheel)],
            [python, "-I", "-c", PROGRAM],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return done.stderr.strip()
    return ""


def main(arguments: list[str]) -> int:
    failed = not arguments
    for wheel in map(pathlib.Path, arguments):
        found = faults(wheel)
        outcome = "looked at"
        if fits(wheel):
            outcome = "ran"
            found += filter(None, [run(wheel)])
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {'; '.join(found) or outcome}")
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
