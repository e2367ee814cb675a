"""What a measurement was taken on: the machine, and the versions of the loops."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import ssl


def machine() -> str:
    """Processor, system and interpreter, in one line."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    # It decides about large messages, on loopback too.
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
    system = f"Linux {platform.release()}"
    if congestion.exists():
        system += f", TCP {congestion.read_text().strip()}"
    return f"{os.cpu_count()} cores, {model}, {system}, {python}, {ssl.OPENSSL_VERSION}"


def package_version(name: str) -> str:
    """Of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "from sources"
