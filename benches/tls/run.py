#!/usr/bin/env python3
"""Measures TLS servers side by side: echo of 1 KiB and 100 KiB, full and resumed handshakes.

    python benches/tls/run.py                              # all servers that can run here, RSA-2048
    python benches/tls/run.py --key ec --rounds 7 --servers ironloop,uvloop+aiofastnet

The servers stay up and take turns, round by round, on core 0; the load client (load.c, built with cc, as is
the reference without Python) runs on core 1. Shown per server: the median of the CPU time that it used per request,
in microseconds, which is what a machine that is shared with others measures well, and the best rate. `openssl` makes
the certificates. aiofastnet is a library that brings its own TLS transports to asyncio and uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
SERVERS = ("reference", "ironloop", "ironloop-fallback", "uvloop+aiofastnet", "asyncio+aiofastnet", "uvloop", "asyncio")
ROWS = {
    "echo 1 KiB, 10 connections": ("10", "1024"),
    "echo 1 KiB, 100 connections": ("100", "1024"),
    "echo 100 KiB, 10 connections": ("10", "102400"),
    "handshakes": ("full",),
    "resumed handshakes": ("resumed",),
}
SERVER_CORE, CLIENT_CORE = "0", "1"


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(name: str, certificate: str, key: str) -> None:
    """Print the port and serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    if name.endswith("+aiofastnet"):
        import aiofastnet

        server = await aiofastnet.create_server(loop, Echo, "127.0.0.1", 0, ssl=context)
    else:
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name.startswith("ironloop"):
        import ironloop

        return ironloop.new_event_loop()
    if name.startswith("uvloop"):
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def run_server(name: str, certificate: str, key: str) -> None:
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(name, certificate, key))


def make_certificate(folder: pathlib.Path, kind: str) -> tuple[str, str]:
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    algorithm = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["rsa:2048"]
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", *algorithm, "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def build(folder: pathlib.Path, name: str) -> str:
    program = str(folder / name)
    subprocess.run(["cc", "-O2", str(HERE / f"{name}.c"), "-o", program, "-lssl", "-lcrypto"], check=True)
    return program


def cpu_seconds(pid: int) -> float:
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def start(name: str, folder: pathlib.Path, certificate: str, key: str) -> tuple[subprocess.Popen[str], str] | None:
    """The server's process and port; None if it cannot run here."""
    if name == "reference":
        command = [build(folder, "reference"), certificate, key]
    else:
        command = [sys.executable, __file__, "--serve", name, "--certificate", certificate, "--private-key", key]
    environment = {**os.environ, **({"IRONLOOP_TLS": "fallback"} if name.endswith("-fallback") else {})}
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, *command], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    if port:
        return process, port
    process.wait()
    return None


def measure(
    load: str, server: tuple[subprocess.Popen[str], str], row: tuple[str, ...], seconds: str
) -> tuple[float, int]:
    """(CPU microseconds of the server per request, requests per second)"""
    process, port = server
    before = cpu_seconds(process.pid)
    client = ["taskset", "-c", CLIENT_CORE, load, port, *row, seconds]
    done = subprocess.run(client, check=True, capture_output=True, text=True)
    count, rate = done.stdout.split()
    return (cpu_seconds(process.pid) - before) * 1e6 / int(count), int(rate)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures TLS servers side by side.")
    parser.add_argument("--servers", default=",".join(SERVERS), help="comma-separated (default: all)")
    parser.add_argument("--rows", default="", help="only rows that contain this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", default="0.7", help="per sample")
    parser.add_argument("--key", choices=["rsa", "ec"], default="rsa")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--certificate", help=argparse.SUPPRESS)
    parser.add_argument("--private-key", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_server(options.serve, options.certificate, options.private_key)
        return
    folder = pathlib.Path(tempfile.mkdtemp())
    servers = {}
    try:
        certificate, key = make_certificate(folder, options.key)
        load = build(folder, "load")
        for name in options.servers.split(","):
            server = start(name, folder, certificate, key)
            if server is not None:
                servers[name] = server
        for title, row in ROWS.items():
            if options.rows not in title:
                continue
            samples: dict[str, list[tuple[float, int]]] = {name: [] for name in servers}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    samples[name].append(measure(load, server, row, options.seconds))
            print(f"{title} ({options.key})")
            for name, taken in samples.items():
                median = statistics.median(cost for cost, _ in taken)
                print(f"  {name:20} {median:8.2f} us/request   best {max(rate for _, rate in taken):7}/s", flush=True)
    finally:
        for process, _ in servers.values():
            process.kill()
            process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
