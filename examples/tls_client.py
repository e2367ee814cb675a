"""A TLS client: what it verifies, what it refuses, and a connection that becomes TLS half way (STARTTLS).

    python examples/tls_client.py
    python -m ironloop examples/tls_client.py
    python -m ironloop compare examples/tls_client.py

    python -m ironloop examples/tls_client.py example.org     # a server of the internet's, by its name

Without an argument it is its own server, with a certificate made by the openssl program. `ironloop.tls_backend` tells
how ironloop makes the records; the context, verification and errors are Python's `ssl` either way. STARTTLS with
streams needs Python 3.11.
"""

import asyncio
import ssl
import subprocess
import sys
import tempfile


def make_certificate(folder: str) -> "tuple[str, str]":
    """A certificate for localhost that lasts a day, and its key."""
    certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


async def describe(host: str, port: int, context: ssl.SSLContext, server_hostname: str) -> None:
    """Connects, and says what was agreed upon."""
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=server_hostname)
    connection = writer.get_extra_info("ssl_object")
    print(f"{server_hostname}: {connection.version()}, {connection.cipher()[0]}")
    writer.write(f"HEAD / HTTP/1.1\r\nHost: {server_hostname}\r\nConnection: close\r\n\r\n".encode())
    print((await reader.readline()).decode().strip())
    writer.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    writer.close()


async def upgrade(context: ssl.SSLContext, port: int) -> None:
    """Asks in plain text for TLS, and goes on with it, as mail and database clients do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"STARTTLS\n")
    print("plain:", (await reader.readline()).decode().strip())
    await writer.start_tls(context, server_hostname="localhost")
    writer.write(b"whoami\n")
    print("over TLS:", (await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()


async def serve_upgrade(context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readline() == b"STARTTLS\n"
    # Nothing is read until TLS reads it: its first bytes may come at once.
    writer.transport.pause_reading()
    writer.write(b"go ahead\n")
    await writer.start_tls(context)
    question = await reader.readline()
    writer.write(b"nobody I know\n" if question == b"whoami\n" else b"what?\n")
    writer.close()


async def main() -> None:
    if len(sys.argv) > 1:
        await describe(sys.argv[1], 443, ssl.create_default_context(), sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(folder)
        ours = ssl.create_default_context(cafile=certificate)
        servers = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        servers.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=servers)
    port = server.sockets[0].getsockname()[1]

    await describe("127.0.0.1", port, ours, "localhost")
    for name, context in (("localhost", ssl.create_default_context()), ("example.org", ours)):
        try:
            await describe("127.0.0.1", port, context, name)
        except ssl.SSLCertVerificationError as error:
            print(f"{name} refused: {error.verify_message}")
    server.close()

    if sys.version_info >= (3, 11):
        upgrading = await asyncio.start_server(lambda r, w: serve_upgrade(servers, r, w), "127.0.0.1", 0)
        await upgrade(ours, upgrading.sockets[0].getsockname()[1])
        upgrading.close()


asyncio.run(main())
