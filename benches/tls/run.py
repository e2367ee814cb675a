#!/usr/bin/env python3
"""Measures TLS servers side by side: echoes, streams each way, full and resumed handshakes, memory of idle connections.

    python benches/tls/run.py                              # all servers that can run here
    python benches/tls/run.py --rows 100KiB,receive --servers ironloop,uvloop+aiofastnet --rounds 7 --json result.json

The servers (servers.py) stay up and take turns, round by round, on core 0; the load client (load.c, built with cc, as
is the reference without Python) runs on core 1. Shown per server: the median of the CPU time that it used per unit,
which is what a machine that is shared with others measures well; what uvloop, and the best of the others, need in
proportion (above 1.00: more than ironloop); the best rate. Memory is that of a fresh process per sample.
`openssl` makes the certificates. rloop has no TLS server.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
OURS = ("ironloop", "ironloop-fallback")
LOOPS = (*OURS, "uvloop+aiofastnet", "asyncio+aiofastnet", "zuvloop", "uvloop", "asyncio")
SERVER_CORE, CLIENT_CORE = "0", "1"
ECHO, SINK, SOURCE = range(3)
GIB = 1 << 30
IDLE_CONNECTIONS = 1000


@dataclass(frozen=True)
class Row:
    """What the load client is told, which of the server's ports it gets, and the unit of the figures."""

    load: tuple[str, ...]
    port: int = ECHO
    unit: str = "us/request"
    scale: float = 1e6
    keys: tuple[str, ...] = ("rsa",)


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    ports: list[str]


@dataclass(frozen=True)
class Sample:
    cost: float
    rate: float = 0


def rows(seconds: str, megabytes: int) -> dict[str, Row]:
    handshakes = {"unit": "us/handshake", "scale": 1e6, "keys": ("rsa", "ec")}
    stream = {"unit": "CPU s/GiB", "scale": float(GIB)}
    size = str(megabytes << 20)
    return {
        "echo 1KiB c10": Row(("echo", "10", "1024", seconds)),
        "echo 1KiB c100": Row(("echo", "100", "1024", seconds)),
        "echo 100KiB c10": Row(("echo", "10", "102400", seconds)),
        "echo 100KiB c100": Row(("echo", "100", "102400", seconds)),
        "receive": Row(("send", size), SINK, **stream),
        "send": Row(("receive", size), SOURCE, **stream),
        "full handshakes": Row(("full", seconds), **handshakes),
        "resumed handshakes": Row(("resumed", seconds), **handshakes),
        "memory": Row(("idle", str(IDLE_CONNECTIONS)), unit="KiB/connection", scale=1 / 1024),
    }


def make_certificate(folder: pathlib.Path, kind: str) -> tuple[str, str]:
    certificate, key = str(folder / f"{kind}.pem"), str(folder / f"{kind}-key.pem")
    algorithm = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["rsa:2048"]
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", *algorithm, "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def build(folder: pathlib.Path, name: str) -> str:
    program = str(folder / name)
    subprocess.run(["cc", "-O2", str(HERE / f"{name}.c"), "-o", program, "-lssl", "-lcrypto"], check=True)
    return program


class Bench:
    """Programs, certificates and servers, in a folder of their own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.load = build(folder, "load")
        self.reference = build(folder, "reference")
        self.certificates = {kind: make_certificate(folder, kind) for kind in ("rsa", "ec")}
        self.servers: dict[tuple[str, str], Server] = {}

    def start(self, name: str, kind: str) -> Server | None:
        """A new server; None if it cannot run here."""
        program = [self.reference] if name == "reference" else [sys.executable, str(HERE / "servers.py"), name]
        environment = {**os.environ, **({"IRONLOOP_TLS": "fallback"} if name.endswith("-fallback") else {})}
        command = ["taskset", "-c", SERVER_CORE, *program, *self.certificates[kind]]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        if ports:
            return Server(process, ports)
        process.wait()
        return None

    def server(self, name: str, kind: str) -> Server:
        """The one that takes part in all rounds."""
        if (name, kind) not in self.servers:
            server = self.start(name, kind)
            assert server is not None
            self.servers[name, kind] = server
        return self.servers[name, kind]

    def stop(self) -> None:
        for server in self.servers.values():
            end(server.process)

    def measure(self, name: str, kind: str, row: Row) -> Sample:
        if row.load[0] == "idle":
            return self.measure_memory(name, kind, row)
        server = self.server(name, kind)
        command = ["taskset", "-c", CLIENT_CORE, self.load, server.ports[row.port], *row.load]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        client.stdout.readline()  # "ready"
        before = cpu_seconds(server.process.pid)
        count, rate = client.communicate("\n")[0].split()
        return Sample((cpu_seconds(server.process.pid) - before) * row.scale / int(count), int(rate))

    def measure_memory(self, name: str, kind: str, row: Row) -> Sample:
        server = self.start(name, kind)
        assert server is not None
        # What is made once, with the first connections, is not theirs.
        warm_up = [self.load, server.ports[ECHO], "full", "0.2"]
        subprocess.run(warm_up, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = resident_bytes(server.process.pid)
        client = subprocess.Popen(
            [self.load, server.ports[row.port], *row.load], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        count = int(client.stdout.readline())
        grown = resident_bytes(server.process.pid) - before
        client.communicate()
        end(server.process)
        return Sample(grown * row.scale / count)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def cpu_seconds(pid: int) -> float:
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident_bytes(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def show(title: str, row: Row, samples: dict[str, list[Sample]]) -> None:
    medians = {name: statistics.median(sample.cost for sample in taken) for name, taken in samples.items()}
    others = [cost for name, cost in medians.items() if name not in (*OURS, "reference")]
    print(title)
    for name, cost in medians.items():
        line = f"  {name:20} {cost:9.2f} {row.unit}"
        if name in OURS and "uvloop" in medians:
            line += f"   uvloop {medians['uvloop'] / cost:4.2f}   best other {min(others) / cost:4.2f}"
        rate = max(sample.rate for sample in samples[name])
        if rate:
            rate, unit = (rate / GIB, "GiB/s") if row.unit == "CPU s/GiB" else (rate, "/s")
            line = f"{line:88} {rate:9.2f} {unit}" if unit == "GiB/s" else f"{line:88} {rate:9.0f} {unit}"
        print(line, flush=True)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "kernel": platform.release()}
    for name in ("uvloop", "zuvloop", "aiofastnet"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures TLS servers side by side.")
    parser.add_argument("--servers", default=",".join(("reference", *LOOPS)), help="comma-separated (default: all)")
    parser.add_argument("--rows", default="", help="only rows that contain one of these, comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", default="0.7", help="per sample")
    parser.add_argument("--megabytes", type=int, default=256, help="of a stream (with --full: 1024)")
    parser.add_argument("--full", action="store_true", help="streams of 1 GiB, 9 rounds of 2 seconds")
    parser.add_argument("--json", type=pathlib.Path, help="write all samples to this file")
    options = parser.parse_args()
    if options.full:
        options.megabytes, options.rounds, options.seconds = 1024, 9, "2"
    return options


def main() -> None:
    options = parse()
    wanted = options.rows.split(",")
    folder = pathlib.Path(tempfile.mkdtemp())
    bench = Bench(folder)
    results: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        names = []
        for name in options.servers.split(","):
            server = bench.start(name, "rsa")
            if server is None:
                print(f"{name} cannot run here")
                continue
            bench.servers[name, "rsa"] = server
            names.append(name)
        for title, row in rows(options.seconds, options.megabytes).items():
            if not any(part in title for part in wanted):
                continue
            for kind in row.keys:
                samples: dict[str, list[Sample]] = {name: [] for name in names}
                for _ in range(options.rounds):
                    for name in names:
                        samples[name].append(bench.measure(name, kind, row))
                label = f"{title} ({kind})" if len(row.keys) > 1 else title
                show(label, row, samples)
                results[label] = {
                    name: [(sample.cost, sample.rate) for sample in taken] for name, taken in samples.items()
                }
    finally:
        bench.stop()
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps({"versions": versions(), "samples": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
