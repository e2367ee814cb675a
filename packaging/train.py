"""What a build with profile-guided optimization learns from: every hot path once, in the proportions of a server.

`maturin build --pgo` builds an instrumented ironloop, runs this with it, and builds again with what was
counted. The programs are those whose instructions CI counts, and besides them TLS, subprocesses and the executor. It
prints nothing, and has no opinion on how long anything took.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches" / "counts"))

from programs import PROGRAMS  # noqa: E402

# Times what CI counts: enough for rare branches to be seen as rare.
FACTOR = 5


def certificate(folder: str) -> tuple[str, str]:
    """A certificate for localhost and its key, by the openssl program."""
    key, cert = f"{folder}/key.pem", f"{folder}/cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def tls_echo(folder: str) -> None:
    """Small and large messages over TLS, and many handshakes."""
    cert, key = certificate(folder)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(cert, key)
    client_context = ssl.create_default_context(cafile=cert)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    for connection in range(20):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context, server_hostname="localhost"
        )
        size = 1024 if connection % 4 else 100_000
        for _ in range(100):
            writer.write(bytes(size))
            await reader.readexactly(size)
        writer.close()
        await writer.wait_closed()
    server.close()


async def children_and_threads() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(20):
        child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        await child.communicate(b"x" * 10_000)
    for _ in range(2_000):
        await loop.run_in_executor(None, os.getpid)


def main() -> None:
    import ironloop

    if len(sys.argv) > 1:
        name, count = sys.argv[1], PROGRAMS[sys.argv[1]][1] * FACTOR
        ironloop.run(PROGRAMS[name][0](count))  # type: ignore[arg-type]
        return
    # A process each, as a program that ends in the wrong way loses its own counts only.
    for name in PROGRAMS:
        subprocess.run([sys.executable, __file__, name], check=True)
    with tempfile.TemporaryDirectory() as folder:
        ironloop.run(tls_echo(folder))
    ironloop.run(children_and_threads())


if __name__ == "__main__":
    main()
