"""An environment of its own for each version of Python: the peers from PyPI, and this ironloop."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import venv

BENCHES = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent
PATIENCE = 1200  # seconds; a peer without a wheel for this Python is built from its sources
SOURCES = ("src", "python", "build.rs", "Cargo.toml", "Cargo.lock", "pyproject.toml")


def folder() -> pathlib.Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return BENCHES / ".venv" / (version + sys.abiflags)


def prepare(update: bool) -> pathlib.Path:
    """The interpreter of the environment, with everything in it that can be installed."""
    python = folder() / "bin" / "python"
    if not (folder() / "packages.json").exists():
        venv.create(folder(), clear=True, symlinks=True, with_pip=True)
    install_peers(python, update)
    install_ironloop(python)
    return python


def failures() -> dict[str, str]:
    """Packages that could not be installed into the running environment, and why."""
    path = pathlib.Path(sys.prefix) / "packages.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return {name: why for name, why in known.items() if why}


def install_peers(python: pathlib.Path, update: bool) -> None:
    """Each on its own, so that one that fails does not take the others along; tried once, or again to update."""
    path = folder() / "packages.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for line in (BENCHES / "requirements.txt").read_text().splitlines():
        name = line.partition("=")[0].partition("[")[0]
        if name in known and not update:
            continue
        print(f"installing {line}", file=sys.stderr)
        known[name] = pip(python, "--prefer-binary", "--upgrade", line)
        path.write_text(json.dumps(known, indent=1))


def install_ironloop(python: pathlib.Path) -> None:
    """Built when a source is newer than what is installed."""
    stamp = folder() / "ironloop.stamp"
    files = [file for name in SOURCES for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()]
    if stamp.exists() and stamp.stat().st_mtime > max(file.stat().st_mtime for file in files):
        return
    print("building ironloop", file=sys.stderr)
    failure = pip(python, "--no-deps", "--force-reinstall", str(ROOT))
    if failure:
        raise SystemExit(f"ironloop cannot be built: {failure}")
    stamp.touch()


def pip(python: pathlib.Path, *arguments: str) -> str:
    """Empty, or what went wrong."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"not built after {PATIENCE} s"
    if not done.returncode:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error: ") and " " in line.partition(": ")[2]]
    return (errors or lines or ["pip failed"])[-1]
